"""Segmentation metrics, computed from one confusion matrix over the pixels of all images, except void ones."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from dico_tf.data.segmentation import VOID
from dico_tf.errors import UserError
from dico_tf.evaluation.averaging import combine
from dico_tf.evaluation.report import checked_run
from dico_tf.files.json_files import FORMAT
from dico_tf.formulas.averages import AVERAGES


def enlarged(logits: ArrayLike, sides: tuple[int, int]) -> np.ndarray:
    """Resize logits [..., h, w, C] bilinearly to float32 [..., H, W, C]; `sides` is (H, W), align_corners=False."""
    logits = np.asarray(logits, np.float32)
    rows, columns = (_weights(large, small) for large, small in zip(sides, logits.shape[-3:-1], strict=True))
    *outer, height, width, classes = logits.shape
    tall = (rows @ logits.reshape(*outer, height, width * classes)).reshape(*outer, sides[0], width, classes)
    return columns @ tall


def _weights(large: int, small: int) -> np.ndarray:
    """Return interpolation weights [large, small]; new position i lies at (i + 1/2) small / large - 1/2."""
    place = np.clip((np.arange(large) + 0.5) * small / large - 0.5, 0, small - 1)
    low = np.floor(place).astype(int)
    high, share = np.minimum(low + 1, small - 1), (place - low).astype(np.float32)
    weights = np.zeros((large, small), np.float32)
    np.add.at(weights, (np.arange(large), low), 1 - share)
    np.add.at(weights, (np.arange(large), high), share)
    return weights


def confusion(predictions: ArrayLike, masks: ArrayLike, classes: int) -> np.ndarray:
    """Return the confusion matrix int64 [C, C] in pixels: rows are the truth, columns predictions.

    Args:
        predictions: class numbers, in any shape.
        masks: true class numbers, in the same shape; pixels with VOID (255) are not counted.
        classes: C.
    """
    predictions, masks = np.asarray(predictions), np.asarray(masks)
    if predictions.shape != masks.shape:
        raise UserError(f"predictions {list(predictions.shape)} and masks {list(masks.shape)} must have the same shape")
    valid = masks != VOID
    truth, predicted = masks[valid].astype(np.int64), predictions[valid].astype(np.int64)
    for name, values in (("masks", truth), ("predictions", predicted)):
        if values.size and not 0 <= values.min() <= values.max() < classes:
            raise UserError(f"{name}: expected classes 0 to {classes - 1}, got {values.min()} to {values.max()}")
    return np.bincount(truth * classes + predicted, minlength=classes**2).reshape(classes, classes)


def iou(counts: np.ndarray) -> list[float | None]:
    """Return TP / (TP + FP + FN) of each class of a confusion matrix; None if neither masks nor predictions have it."""
    intersection = counts.diagonal()
    union = counts.sum(0) + counts.sum(1) - intersection
    return [int(i) / int(u) if u else None for i, u in zip(intersection, union, strict=True)]


def miou(counts: np.ndarray) -> float | None:
    """Return the mean IoU over the classes that masks or predictions have; None if the matrix counts no pixel."""
    values = [value for value in iou(counts) if value is not None]
    return sum(values) / len(values) if values else None


def scores(counts: np.ndarray) -> dict[str, Any]:
    """Return miou, pixel_accuracy and iou (a list by class) of a confusion matrix; None for undefined values."""
    total = int(counts.sum())
    return {
        "miou": miou(counts),
        "pixel_accuracy": int(counts.trace()) / total if total else None,
        "iou": iou(counts),
    }


class ConfusionCounts:
    """Confusion matrices of each branch, and of the ensemble under each rule of AVERAGES, summed over images."""

    def __init__(self, splits: int, classes: int):
        """Start with counts of 0 for `splits` branches."""
        self.classes = classes
        self.branches = np.zeros((splits, classes, classes), np.int64)
        self.averages = {name: np.zeros((classes, classes), np.int64) for name in AVERAGES}
        self._different = self._pairs = 0

    def add(self, logits: np.ndarray, mask: np.ndarray) -> None:
        """Count the pixels of one image, except void ones.

        Args:
            logits: [S, h, w, C] at any stride; they are resized to the mask's size.
            mask: true classes [H, W].
        """
        valid = mask != VOID
        if not valid.any():
            return
        pixels = enlarged(logits, mask.shape)[:, valid].swapaxes(0, 1)  # [P, S, C]
        truth, predictions = mask[valid], pixels.argmax(-1)
        for s in range(len(self.branches)):
            self.branches[s] += confusion(predictions[:, s], truth, self.classes)
        for name, counts in self.averages.items():
            counts += confusion(combine(pixels, name).argmax(-1), truth, self.classes)
        for a in range(predictions.shape[1]):
            for b in range(a):
                self._different += int((predictions[:, a] != predictions[:, b]).sum())
                self._pairs += len(truth)

    @property
    def disagreement(self) -> float:
        """Mean over pairs of branches of the share of pixels, void ones excepted, that they classify differently.

        It is 0 for one branch.
        """
        return self._different / self._pairs if self._pairs else 0.0


def evaluation(
    counts: ConfusionCounts,
    average: str,
    split: str,
    select: str,
    weights: str,
    class_names: Sequence[str],
    **more: Any,
) -> dict[str, Any]:
    """Return the content of evaluation_<split>.json of a segmentation run; None for undefined values.

    Args:
        average: key of AVERAGES, the rule that makes the ensemble.
        split: name of the evaluated split.
        select: split that chose the epoch, validation or test.
        weights: raw, or ema = moving average of the weights.
        more: further keys and values of the content.
    """
    AVERAGES[average]
    checked_run(select, weights)
    ensemble = counts.averages[average]
    return {
        "format": FORMAT,
        "task": "segmentation",
        "split": split,
        "select": select,
        "weights": weights,
        "branches": [scores(branch) for branch in counts.branches],
        "ensemble": scores(ensemble),
        "average": average,
        "averages": {name: miou(matrix) for name, matrix in counts.averages.items()},
        "diversity": {"disagreement": counts.disagreement},
        "confusion": ensemble.tolist(),
        "class_names": [str(name) for name in class_names],
        **more,
    }
