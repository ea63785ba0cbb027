"""How good one answer per image is: logits [N, C] against labels [N], in float64.

Log-probabilities are logits too. Equal logits rank by class number, the lower first, as argmax does.
"""

import numpy as np
from numpy.typing import ArrayLike

from dico_tf.errors import UserError
from dico_tf.evaluation.averaging import checked_logits, log_softmax, softmax

ECE_BINS = 15


def top_k(logits: ArrayLike, labels: ArrayLike, k: int) -> float:
    """Share of images whose label is among the k largest logits; 1 where k reaches the number of classes."""
    logits, labels = _checked(logits, labels)
    if k < 1:
        raise UserError(f"top-{k} accuracy does not exist: k must be at least 1")
    own = _at(logits, labels)[:, None]
    ahead = (logits > own).sum(1)
    tied_before = ((logits == own) & (np.arange(logits.shape[1]) < labels[:, None])).sum(1)
    return float((ahead + tied_before < k).mean())


def nll(logits: ArrayLike, labels: ArrayLike) -> float:
    """mean_n -log p_n[y_n], in nats."""
    logits, labels = _checked(logits, labels)
    return float(-_at(log_softmax(logits), labels).mean())


def brier(logits: ArrayLike, labels: ArrayLike) -> float:
    """mean_n sum_c (p_n[c] - [c = y_n])^2, between 0 and 2."""
    logits, labels = _checked(logits, labels)
    errors = softmax(logits)
    errors[np.arange(len(labels)), labels] -= 1
    return float(np.square(errors).sum(1).mean())


def ece(logits: ArrayLike, labels: ArrayLike, bins: int = ECE_BINS) -> float:
    """sum_b n_b / N |accuracy_b - confidence_b|, confidence = max p, bins (b / B, (b + 1) / B]."""
    logits, labels = _checked(logits, labels)
    confidence = softmax(logits).max(1)
    edges = np.arange(bins + 1) / bins
    members = np.searchsorted(edges, confidence, side="left") - 1  # the edge belongs to the bin on its left
    gaps = np.bincount(members, weights=(logits.argmax(1) == labels) - confidence, minlength=bins)
    return float(abs(gaps).sum() / len(labels))


def confusion(logits: ArrayLike, labels: ArrayLike) -> np.ndarray:
    """Images [C, C]: rows are the truth, columns the answer."""
    logits, labels = _checked(logits, labels)
    classes = logits.shape[1]
    return np.bincount(labels * classes + logits.argmax(1), minlength=classes**2).reshape(classes, classes)


def per_class_accuracy(logits: ArrayLike, labels: ArrayLike) -> list[float | None]:
    """Share of each class's images answered right; None for a class without images."""
    counts = confusion(logits, labels)
    of_class = zip(counts.diagonal().tolist(), counts.sum(1).tolist(), strict=True)
    return [right / images if images else None for right, images in of_class]


def scores(logits: ArrayLike, labels: ArrayLike) -> dict[str, float]:
    """Every number that one branch, or the ensemble, is reported with."""
    return {
        "top1": top_k(logits, labels, 1),
        "top5": top_k(logits, labels, 5),
        "nll": nll(logits, labels),
        "brier": brier(logits, labels),
        "ece": ece(logits, labels),
    }


def checked_labels(labels: ArrayLike, images: int, classes: int) -> np.ndarray:
    """int64 [N] of classes 0..C-1, or a UserError."""
    labels = np.asarray(labels)
    if labels.shape != (images,) or labels.dtype.kind not in "iu":
        raise UserError(f"labels are {labels.dtype} {list(labels.shape)}, expected one whole number for each of "
                        f"{images} images")  # fmt: skip
    outside = (labels < 0) | (labels >= classes)
    if outside.any():
        raise UserError(f"{outside.sum()} of {images} labels lie outside 0..{classes - 1}, the first is "
                        f"{labels[outside.argmax()]}: the network and the images name different classes")  # fmt: skip
    return labels.astype(np.int64)


def _checked(logits: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    logits = checked_logits(logits, "NC").astype(np.float64)
    return logits, checked_labels(labels, *logits.shape)


def _at(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return values[np.arange(len(labels)), labels]
