"""Classification metrics: logits [N, C] against labels [N], in float64, with p = softmax(logits).

Log-probabilities are logits too. Among equal logits the lower class number ranks first, as with argmax.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from dico_tf.errors import UserError
from dico_tf.evaluation.averaging import checked_logits, log_softmax, softmax
from dico_tf.registry import Registry

ECE_BINS = 15


@dataclasses.dataclass(frozen=True)
class Score:
    """A metric that is reported for every branch and for the ensemble."""

    heading: str  # of its column in the table
    formula: Callable[[ArrayLike, ArrayLike], float]  # (logits [N, C], labels [N]) -> score
    percent: bool = False  # a share, which the table shows in percent


SCORES: Registry[Score] = Registry("score")


def top_k(logits: ArrayLike, labels: ArrayLike, k: int) -> float:
    """Return the share of images whose label is among the k largest logits; 1.0 if k >= C.

    Among equal logits the lower class number ranks first. Raises UserError if k < 1.
    """
    logits, labels = _checked(logits, labels)
    if k < 1:
        raise UserError(f"top-{k} accuracy does not exist: k must be at least 1")
    own = _at(logits, labels)[:, None]
    ahead = (logits > own).sum(1)
    tied_before = ((logits == own) & (np.arange(logits.shape[1]) < labels[:, None])).sum(1)
    return float((ahead + tied_before < k).mean())


def nll(logits: ArrayLike, labels: ArrayLike) -> float:
    """mean_n -log p_n[y_n], in nats, with p = softmax(logits) and the labels y."""
    logits, labels = _checked(logits, labels)
    return float(-_at(log_softmax(logits), labels).mean())


def brier(logits: ArrayLike, labels: ArrayLike) -> float:
    """mean_n sum_c (p_n[c] - [c = y_n])^2, between 0 and 2, with p = softmax(logits) and the labels y."""
    logits, labels = _checked(logits, labels)
    errors = softmax(logits)
    errors[np.arange(len(labels)), labels] -= 1
    return float(np.square(errors).sum(1).mean())


def ece(logits: ArrayLike, labels: ArrayLike, bins: int = ECE_BINS) -> float:
    """Expected calibration error sum_b n_b / N |accuracy_b - confidence_b|, a share.

    An image's confidence is its largest probability; bin b of B has the n_b images with it in (b / B, (b + 1) / B].
    accuracy_b and confidence_b are means over a bin.
    """
    logits, labels = _checked(logits, labels)
    confidence = softmax(logits).max(1)
    edges = np.arange(bins + 1) / bins
    members = np.searchsorted(edges, confidence, side="left") - 1  # an edge belongs to the bin on its left
    gaps = np.bincount(members, weights=(logits.argmax(1) == labels) - confidence, minlength=bins)
    return float(abs(gaps).sum() / len(labels))


def confusion(logits: ArrayLike, labels: ArrayLike) -> np.ndarray:
    """Return the confusion matrix [C, C] in images: rows are labels, columns predictions."""
    logits, labels = _checked(logits, labels)
    classes = logits.shape[1]
    return np.bincount(labels * classes + logits.argmax(1), minlength=classes**2).reshape(classes, classes)


def per_class_accuracy(logits: ArrayLike, labels: ArrayLike) -> list[float | None]:
    """Return the accuracy on the images of each class; None for a class without images."""
    counts = confusion(logits, labels)
    of_class = zip(counts.diagonal().tolist(), counts.sum(1).tolist(), strict=True)
    return [right / images if images else None for right, images in of_class]


def balanced_accuracy(logits: ArrayLike, labels: ArrayLike) -> float:
    """mean_c TP_c / N_c over the classes c with images, of which there are N_c and TP_c are answered right."""
    return float(np.mean([share for share in per_class_accuracy(logits, labels) if share is not None]))


def macro_f1(logits: ArrayLike, labels: ArrayLike) -> float:
    """mean_c 2 TP_c / (2 TP_c + FP_c + FN_c) over the classes c that labels or predictions have.

    TP_c images of class c are predicted as c, FN_c are not, and FP_c images of other classes are predicted as c.
    """
    counts = confusion(logits, labels)
    total = counts.sum(0) + counts.sum(1)  # 2 TP + FP + FN
    used = total > 0
    return float((2 * counts.diagonal()[used] / total[used]).mean())


def scores(logits: ArrayLike, labels: ArrayLike) -> dict[str, float]:
    """Return {name: score} of one branch or of the ensemble, for every score of `SCORES`."""
    return {name: SCORES[name].formula(logits, labels) for name in SCORES}


SCORES.add("top1", Score("top-1 %", lambda logits, labels: top_k(logits, labels, 1), percent=True))
SCORES.add("top5", Score("top-5 %", lambda logits, labels: top_k(logits, labels, 5), percent=True))
SCORES.add("nll", Score("NLL", nll))
SCORES.add("brier", Score("Brier", brier))
SCORES.add("ece", Score("ECE %", ece, percent=True))
SCORES.add("balanced_accuracy", Score("balanced %", balanced_accuracy, percent=True))
SCORES.add("macro_f1", Score("macro F1 %", macro_f1, percent=True))


def checked_labels(labels: ArrayLike, images: int, classes: int) -> np.ndarray:
    """Return labels as int64 [N]. Raises UserError unless they are `images` integers below `classes`, from 0."""
    labels = np.asarray(labels)
    if labels.shape != (images,) or labels.dtype.kind not in "iu":
        raise UserError(
            f"labels are {labels.dtype} {list(labels.shape)}, expected one whole number for each of {images} images"
        )
    outside = (labels < 0) | (labels >= classes)
    if outside.any():
        raise UserError(
            f"{outside.sum()} of {images} labels lie outside 0..{classes - 1}, the first is "
            f"{labels[outside.argmax()]}: the network and the data need the same classes"
        )
    return labels.astype(np.int64)


def _checked(logits: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    logits = checked_logits(logits, "NC").astype(np.float64)
    return logits, checked_labels(labels, *logits.shape)


def _at(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return values[np.arange(len(labels)), labels]
