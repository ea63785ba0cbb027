"""Softmax, averages of the branches' logits, and their disagreement, in float64."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from dico_tf.errors import UserError
from dico_tf.formulas import softmax as formulas
from dico_tf.formulas.averages import AVERAGES

_BLOCK = 4096  # images whose float64 copy is alive at a time: ImageNet's would take gigabytes


def log_sum_exp(logits: ArrayLike, axis: int = -1) -> np.ndarray:
    """log(sum(exp(z))) = max(z) + log(sum(exp(z - max(z)))) over one axis, which is removed."""
    return formulas.log_sum_exp(np, np.asarray(logits, np.float64), axis)


def log_softmax(logits: ArrayLike) -> np.ndarray:
    """z - log(sum(exp(z))) over the last axis."""
    return formulas.log_softmax(np, np.asarray(logits, np.float64))


def softmax(logits: ArrayLike) -> np.ndarray:
    """exp(z) / sum(exp(z)) over the last axis."""
    return formulas.softmax(np, np.asarray(logits, np.float64))


def log_probabilities(probabilities: ArrayLike) -> np.ndarray:
    """Return log(p) in float64, which can be used as logits; p below 2.2e-308 counts as 2.2e-308.

    Raises UserError for a row with a negative number or NaN, or with a sum that differs from 1 by 0.1 or more. Sums of
    int8 probabilities differ a little.
    """
    probabilities = np.asarray(probabilities, np.float64)
    negative = ~(probabilities >= 0).all(-1)
    if negative.any():
        raise UserError(
            f"expected probabilities, got a negative number or NaN in {negative.sum()} of {negative.size} rows; "
            "give the outputs of a softmax"
        )
    sums = probabilities.sum(-1)
    wrong = ~(abs(sums - 1) < 0.1)
    if wrong.any():
        raise UserError(
            f"expected probabilities, but {wrong.sum()} of {wrong.size} rows do not add up to 1, such as one with the "
            f"sum {sums[wrong].flat[0]:.4g}; give the outputs of a softmax"
        )
    return np.log(np.maximum(probabilities, np.finfo(np.float64).tiny))


def disagreement(probabilities: np.ndarray) -> np.ndarray:
    """H(mean_s p_s) - mean_s H(p_s) in nats, with the entropy H: [N, S, C] -> [N]."""
    return _entropy(probabilities.mean(1)) - _entropy(probabilities).mean(1)


def _entropy(p: np.ndarray) -> np.ndarray:
    return -(p * np.log(np.where(p > 0, p, 1.0))).sum(-1)


def combine(logits: ArrayLike, average: str = "logits") -> np.ndarray:
    """Return the ensemble's logits float64 [N, C] from its branches' [N, S, C]; `average` is a key of AVERAGES.

    Raises UserError for an unknown average, another shape, NaN or infinity.
    """
    checked = checked_logits(logits, "NSC")
    rule = AVERAGES[average]
    combined = np.empty((checked.shape[0], checked.shape[2]))
    for rows, block in blocks(checked):
        combined[rows] = rule.combine(np, rule.values(np, block))
    return combined


def blocks(logits: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield (slice of rows, float64 copy of these rows) for blocks of 4,096 images."""
    for start in range(0, len(logits), _BLOCK):
        rows = slice(start, start + _BLOCK)
        yield rows, logits[rows].astype(np.float64)


def checked_logits(logits: ArrayLike, axes: str) -> np.ndarray:
    """Return the logits as an array; `axes` has a letter for each axis, e.g. "NSC".

    Raises UserError for another number of axes, an empty axis, NaN, infinity, or values that are no numbers.
    """
    logits = np.asarray(logits)
    expected = f"[{', '.join(axes)}]"
    if logits.dtype.kind not in "fiu":
        raise UserError(f"logits: expected numbers of shape {expected}, got {logits.dtype}")
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
