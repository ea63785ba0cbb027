"""Temperatures and weights from held-out images, by their negative log-likelihood, which is convex in both."""

import numpy as np

from dico_tf.evaluation.averaging import log_softmax, softmax

_STEPS = 50
_ENOUGH = 1e-8  # of a step
_MOST = 10_000  # images; a few parameters need no more
_SHRINK = 1e-3  # towards equal weights: keeps the problem from being flat where members say the same


def nll(logits: np.ndarray, labels: np.ndarray) -> float:
    return float(-log_softmax(logits)[np.arange(len(labels)), labels].mean())


def temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """argmin_T NLL(z / T) of logits [N, C]."""
    (scale,) = _scales(logits[:, None], labels, np.ones(1))
    return float(1 / np.clip(scale, 1e-3, 1e3))


def weights(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """b / sum b for b = argmin NLL(sum_k b_k z_k), b >= 0, of logits [N, n, C]."""
    members = logits.shape[1]
    found = np.maximum(_scales(logits, labels, np.full(members, 1 / members)), 1e-6)
    return found / found.sum()


def _scales(logits: np.ndarray, labels: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Newton's method on those that are above 0, or would grow; halved steps until the loss falls."""
    some = np.linspace(0, len(labels) - 1, min(_MOST, len(labels))).round().astype(int)  # in folders, class by class
    z, labels = np.asarray(logits[some], np.float64), labels[some]
    z = z - z.max(-1, keepdims=True)
    own = z[np.arange(len(labels)), :, labels]  # [N, n]
    found, loss = start, _loss(start, start, z, labels)
    for _ in range(_STEPS):
        p = softmax(np.einsum("k,nkc->nc", found, z))
        weighted = z * p[:, None]
        mean = weighted.sum(-1)  # [N, n]
        slope = (mean - own).mean(0) + _SHRINK * (found - start)
        curvature = np.einsum("nkc,nlc->kl", weighted, z) / len(z) - mean.T @ mean / len(z)
        free = (found > 0) | (slope < 0)
        step = np.zeros_like(found)
        step[free] = np.linalg.solve((curvature + _SHRINK * np.eye(len(found)))[np.ix_(free, free)], -slope[free])
        found, loss, moved = _line(found, step, loss, lambda b: _loss(b, start, z, labels))
        if moved < _ENOUGH:
            break
    return found


def _loss(scales: np.ndarray, start: np.ndarray, z: np.ndarray, labels: np.ndarray) -> float:
    return nll(np.einsum("k,nkc->nc", scales, z), labels) + _SHRINK / 2 * float(np.square(scales - start).sum())


def _line(found, step, loss, of):
    for _ in range(30):
        moved = np.maximum(found + step, 0)
        after = of(moved)
        if after < loss:
            return moved, after, float(np.abs(moved - found).max())
        step = step / 2
    return found, loss, 0.0
