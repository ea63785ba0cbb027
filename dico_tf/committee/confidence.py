"""Confidence of a running answer in numpy: float32 [N], higher is surer.

A row with NaN or infinity has confidence NaN, which passes no gate.
"""

import numpy as np

from dico_tf.formulas import softmax as formulas
from dico_tf.formulas.confidences import CONFIDENCES


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return exp(z - max z) / sum in float32: in half precision a lead of 8 logits would be a probability of 1."""
    with np.errstate(invalid="ignore"):  # infinity less itself: such a row becomes NaN
        return formulas.softmax(np, np.asarray(logits, np.float32))


def confidence(name: str, answer: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Return the confidence `name` of an answer [N, C] of members whose logits are [N, k, C]."""
    formula = CONFIDENCES[name].formula
    with np.errstate(invalid="ignore"):
        values = formula(np, np.asarray(answer, np.float32), np.asarray(members, np.float32)).astype(np.float32)
    values[~np.isfinite(answer).all(-1)] = np.nan
    return values
