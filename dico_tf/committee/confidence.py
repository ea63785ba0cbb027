"""How sure a running answer is: logits [N, C], and those of each member so far [N, k, C] -> [N] float32.

Higher is surer. A row with NaN or infinity has confidence NaN, which passes no gate.
"""

from collections.abc import Callable

import numpy as np

from dico_tf.registry import Registry

Confidence = Callable[[np.ndarray, np.ndarray], np.ndarray]
CONFIDENCES: Registry[Confidence] = Registry("confidence")
_SUREST = np.finfo(np.float32).max  # infinity is the gate that nothing passes


def softmax(logits: np.ndarray) -> np.ndarray:
    """exp(z - max z) / sum, in float32 whatever comes: half precision calls 8 logits of lead a certainty."""
    logits = np.asarray(logits, np.float32)
    with np.errstate(invalid="ignore"):  # infinity less itself: such a row is NaN, as it shall be
        exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def confidence(name: str, together: np.ndarray, apart: np.ndarray) -> np.ndarray:
    found = CONFIDENCES[name](np.asarray(together, np.float32), apart).astype(np.float32)
    found[~np.isfinite(together).all(-1)] = np.nan
    return found


def _max_prob(together: np.ndarray, _: np.ndarray) -> np.ndarray:
    """max p"""
    return softmax(together).max(-1)


def _prob_gap(together: np.ndarray, _: np.ndarray) -> np.ndarray:
    """p1 - p2 of the two largest"""
    return _gap(softmax(together))


def _logit_gap(together: np.ndarray, _: np.ndarray) -> np.ndarray:
    """z1 - z2 of the two largest"""
    return _gap(together)


def _gap(values: np.ndarray) -> np.ndarray:
    if values.shape[-1] < 2:
        return np.full(len(values), _SUREST, np.float32)  # one class: there is nothing to be unsure of
    second, first = np.moveaxis(np.partition(values, -2, -1)[..., -2:], -1, 0)
    with np.errstate(invalid="ignore"):
        return first - second


def _entropy(together: np.ndarray, _: np.ndarray) -> np.ndarray:
    """sum p log p, the negative entropy in nats"""
    p = softmax(together)
    return (p * np.log(np.where(p > 0, p, np.float32(1)))).sum(-1)


def _agreement(together: np.ndarray, apart: np.ndarray) -> np.ndarray:
    """Share of the members so far whose own class is the running answer's: 1 after the first member"""
    return (apart.argmax(-1) == together.argmax(-1)[:, None]).mean(-1)


for _name, _rule in {
    "max_prob": _max_prob, "prob_gap": _prob_gap, "logit_gap": _logit_gap, "entropy": _entropy,
    "agreement": _agreement,
}.items():  # fmt: skip
    CONFIDENCES.add(_name, _rule)
