"""Fit the temperature T of one member, or the weights b of several, a number each, to held-out images.

Both minimise NLL, which is convex in 1 / T and in b. Of more than 10,000 images, 10,000 evenly spaced ones are used.
"""

from collections.abc import Callable

import numpy as np

from dico_tf.evaluation.averaging import log_softmax, softmax

_STEPS = 50
_ENOUGH = 1e-8  # a smaller step ends the search
_MOST = 10_000  # images; a few parameters need no more
_SHRINK = 1e-3  # pull towards equal weights, so that one solution is best even if members agree everywhere


def nll(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return mean_n -log p_n[y_n] of logits [N, C]."""
    return float(-log_softmax(logits)[np.arange(len(labels)), labels].mean())


def temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the T from 0.001 to 1000 that minimises NLL(z / T) + 0.0005 (1 / T - 1)^2 for logits z [N, C]."""
    (scale,) = _scales(logits[:, None], labels, np.ones(1))
    return float(1 / np.clip(scale, 1e-3, 1e3))


def weights(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the members' weights b / sum b [n], all above 0, for logits of N images and n members, [N, n, C].

    b >= 0 minimises NLL(sum_k b_k z_k) + 0.0005 |b - 1/n|^2; each b_k is then raised to at least 1e-6.
    """
    members = logits.shape[1]
    scales = np.maximum(_scales(logits, labels, np.full(members, 1 / members)), 1e-6)
    return scales / scales.sum()


def _scales(logits: np.ndarray, labels: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Return the scales [n], from 0, that minimise `_loss`, by Newton's method from `start`.

    Each step moves only scales that are above 0 or would grow, and is halved until the loss falls.
    """
    some = np.linspace(0, len(labels) - 1, min(_MOST, len(labels))).round().astype(int)  # images may be sorted by class
    z, labels = np.asarray(logits[some], np.float64), labels[some]
    z = z - z.max(-1, keepdims=True)
    own = z[np.arange(len(labels)), :, labels]  # [N, n]
    scales, loss = start, _loss(start, start, z, labels)
    for _ in range(_STEPS):
        p = softmax(np.einsum("k,nkc->nc", scales, z))
        weighted = z * p[:, None]
        mean = weighted.sum(-1)  # [N, n]
        slope = (mean - own).mean(0) + _SHRINK * (scales - start)
        curvature = np.einsum("nkc,nlc->kl", weighted, z) / len(z) - mean.T @ mean / len(z)
        free = (scales > 0) | (slope < 0)
        step = np.zeros_like(scales)
        step[free] = np.linalg.solve((curvature + _SHRINK * np.eye(len(scales)))[np.ix_(free, free)], -slope[free])
        scales, loss, moved = _line(scales, step, loss, lambda b: _loss(b, start, z, labels))
        if moved < _ENOUGH:
            break
    return scales


def _loss(scales: np.ndarray, start: np.ndarray, z: np.ndarray, labels: np.ndarray) -> float:
    return nll(np.einsum("k,nkc->nc", scales, z), labels) + _SHRINK / 2 * float(np.square(scales - start).sum())


def _line(scales: np.ndarray, step: np.ndarray, loss: float, of: Callable[[np.ndarray], float]):
    """Return (scales, loss, largest change) after the step, which is halved until it lowers the loss `of`.

    After 30 halvings without success, the scales stay as they are.
    """
    for _ in range(30):
        moved = np.maximum(scales + step, 0)
        after = of(moved)
        if after < loss:
            return moved, after, float(np.abs(moved - scales).max())
        step = step / 2
    return scales, loss, 0.0
