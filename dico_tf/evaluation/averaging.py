"""The branches' logits made into one answer, and a softmax that neither overflows nor yields log(0)."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import ArrayLike

from dico_tf.errors import UserError
from dico_tf.registry import suggestion

_BLOCK = 4096  # images whose float64 copy is alive at a time: ImageNet's would take gigabytes


def log_sum_exp(logits: ArrayLike, axis: int = -1) -> np.ndarray:
    """log(sum(exp(z))) = max(z) + log(sum(exp(z - max(z))))."""
    logits = np.asarray(logits, np.float64)
    top = logits.max(axis, keepdims=True)
    return np.squeeze(top, axis) + np.log(np.exp(logits - top).sum(axis))


def log_softmax(logits: ArrayLike) -> np.ndarray:
    """z - log(sum(exp(z))) over the last axis."""
    logits = np.asarray(logits, np.float64)
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def softmax(logits: ArrayLike) -> np.ndarray:
    """exp(z) / sum(exp(z)) over the last axis."""
    logits = np.asarray(logits, np.float64)
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def log_probabilities(probabilities: ArrayLike) -> np.ndarray:
    """log(p), p floored at the smallest normal number: logits for whoever holds probabilities (or nearly: int8)."""
    probabilities = np.asarray(probabilities, np.float64)
    good = (probabilities >= 0).all(-1) & (abs(probabilities.sum(-1) - 1) < 0.1)
    if not good.all():
        raise UserError(f"{(~good).sum()} of {good.size} rows are no probabilities: negative, or do not add up to 1")
    return np.log(np.maximum(probabilities, np.finfo(np.float64).tiny))


def disagreement(probabilities: np.ndarray) -> np.ndarray:
    """H(mean_s p_s) - mean_s H(p_s), nats: [N, S, C] -> [N]."""
    return _entropy(probabilities.mean(1)) - _entropy(probabilities).mean(1)


def _entropy(p: np.ndarray) -> np.ndarray:
    return -(p * np.log(np.where(p > 0, p, 1.0))).sum(-1)


def _mean_of_probabilities(logits: np.ndarray) -> np.ndarray:
    return log_sum_exp(log_softmax(logits), axis=1) - np.log(logits.shape[1])


_COMBINE: dict[str, Callable[[np.ndarray], np.ndarray]] = {  # [N, S, C] -> [N, C]
    "logits": lambda logits: logits.mean(1),
    "probs": _mean_of_probabilities,
    "max": lambda logits: logits.max(1),
}
AVERAGES = tuple(_COMBINE)


def combine(logits: ArrayLike, average: str = "logits") -> np.ndarray:
    """[N, S, C] -> logits [N, C]: mean of logits, log of the mean probability, or largest logit of each class."""
    checked = checked_logits(logits, "NSC")
    rule = _COMBINE[checked_average(average)]
    combined = np.empty((checked.shape[0], checked.shape[2]))
    for rows, block in blocks(checked):
        combined[rows] = rule(block)
    return combined


def blocks(logits: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """(rows, float64 copy of them), some images at a time."""
    for start in range(0, len(logits), _BLOCK):
        rows = slice(start, start + _BLOCK)
        yield rows, logits[rows].astype(np.float64)


def checked_average(average: str) -> str:
    """The name of an average, or a UserError."""
    if average not in _COMBINE:
        raise UserError(f"unknown average {average!r}; {suggestion(str(average), AVERAGES)}")
    return average


def checked_logits(logits: ArrayLike, axes: str) -> np.ndarray:
    """An array of finite numbers with one axis per letter of `axes`, none of them empty, or a UserError."""
    logits = np.asarray(logits)
    expected = f"[{', '.join(axes)}]"
    if logits.dtype.kind not in "fiu":
        raise UserError(f"logits are {logits.dtype}, expected numbers {expected}")
    if logits.ndim != len(axes):
        raise UserError(f"logits have shape {list(logits.shape)}, expected {expected}")
    if 0 in logits.shape:
        raise UserError(f"logits {expected} have shape {list(logits.shape)}: there is nothing to evaluate")
    lost = ~np.isfinite(logits).all(-1)  # [N] or [N, S]
    if lost.any():
        raise UserError(_lost(lost))
    return logits


def _lost(lost: np.ndarray) -> str:
    rows = lost.reshape(len(lost), -1).any(1)
    where = f" of branches {', '.join(map(str, np.flatnonzero(lost.any(0))))}" if lost.ndim == 2 else ""
    return (
        f"NaN or infinity in the logits{where} in {rows.sum()} of {len(rows)} rows, first in row {rows.argmax()}: "
        "the network has diverged, or its precision is too low; evaluate an earlier checkpoint"
    )
