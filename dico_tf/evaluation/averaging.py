"""Averages of the branches' logits, softmax and disagreement, in float64."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from dico_tf.errors import UserError
from dico_tf.formulas import softmax as formulas
from dico_tf.formulas.averages import AVERAGES

_BLOCK = 4096  # images whose float64 copy is alive at a time: ImageNet's would take gigabytes


def log_sum_exp(logits: ArrayLike, axis: int = -1) -> np.ndarray:
    """log(sum(exp(z))) = max(z) + log(sum(exp(z - max(z))))."""
    return formulas.log_sum_exp(np, np.asarray(logits, np.float64), axis)


def log_softmax(logits: ArrayLike) -> np.ndarray:
    """z - log(sum(exp(z))) over the last axis."""
    return formulas.log_softmax(np, np.asarray(logits, np.float64))


def softmax(logits: ArrayLike) -> np.ndarray:
    """exp(z) / sum(exp(z)) over the last axis."""
    return formulas.softmax(np, np.asarray(logits, np.float64))


def log_probabilities(probabilities: ArrayLike) -> np.ndarray:
    """Return log(p) as logits, with p at least the smallest normal number; rows may add up to 1 roughly, as of int8."""
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


def combine(logits: ArrayLike, average: str = "logits") -> np.ndarray:
    """Return the ensemble's logits [N, C] from those of its branches [N, S, C], by a rule of `AVERAGES`."""
    checked = checked_logits(logits, "NSC")
    rule = AVERAGES[average]
    combined = np.empty((checked.shape[0], checked.shape[2]))
    for rows, block in blocks(checked):
        combined[rows] = rule.combine(np, rule.values(np, block))
    return combined


def blocks(logits: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield (rows, float64 copy of the rows), some images at a time."""
    for start in range(0, len(logits), _BLOCK):
        rows = slice(start, start + _BLOCK)
        yield rows, logits[rows].astype(np.float64)


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
