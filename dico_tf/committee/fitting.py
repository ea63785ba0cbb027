"""Temperatures and weights from held-out images, by their negative log-likelihood."""

import numpy as np

from dico_tf.evaluation.averaging import log_softmax, softmax

_STEPS = 60
_RANGE = -4.0, 4.0  # of log T
_SMALLEST = 1e-6  # step, and weight


def nll(logits: np.ndarray, labels: np.ndarray) -> float:
    return float(-log_softmax(logits)[np.arange(len(labels)), labels].mean())


def temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """argmin_T NLL(z / T), [N, C]: bisection of its derivative by 1/T, which rises, as NLL is convex in 1/T."""
    z = np.asarray(logits, np.float64)
    own = z[np.arange(len(labels)), labels]
    low, high = _RANGE
    for _ in range(_STEPS):
        middle = (low + high) / 2
        slope = ((softmax(z * np.exp(-middle)) * z).sum(-1) - own).mean()  # d NLL / d (1/T)
        low, high = (low, middle) if slope < 0 else (middle, high)  # too small a 1/T: T must fall
    return float(np.exp((low + high) / 2))


def weights(logits: np.ndarray, labels: np.ndarray, steps: int = 200) -> np.ndarray:
    """argmin_w NLL(sum_k w_k z_k) over w >= 0 that add up to 1, [N, n, C]: exponentiated gradient; it is convex."""
    z = np.asarray(logits, np.float64)
    own = z[np.arange(len(labels)), :, labels]  # [N, n]
    found, rate = np.full(z.shape[1], 1 / z.shape[1]), 1.0
    loss = nll(_mixed(found, z), labels)
    for _ in range(steps):
        gradient = (np.einsum("nc,nkc->nk", softmax(_mixed(found, z)), z) - own).mean(0)
        while rate > _SMALLEST:
            moved = found * np.exp(-rate * (gradient - gradient.min()))
            moved = np.maximum(moved / moved.sum(), _SMALLEST)
            after = nll(_mixed(moved, z), labels)
            if after < loss:
                break
            rate /= 2
        else:
            break
        found, loss, rate = moved, after, 1.5 * rate
    return found / found.sum()


def _mixed(shares: np.ndarray, z: np.ndarray) -> np.ndarray:
    return np.einsum("k,nkc->nc", shares, z)
