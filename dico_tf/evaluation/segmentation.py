"""How good classes of pixels are: one confusion over all images, in which void pixels never appear. NumPy only."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from dico_tf.data.segmentation import VOID
from dico_tf.errors import UserError
from dico_tf.evaluation.averaging import AVERAGES, checked_average, combine
from dico_tf.evaluation.report import FORMAT, checked_run


def enlarged(logits: ArrayLike, sides: tuple[int, int]) -> np.ndarray:
    """[..., h, w, C] -> float32 [..., H, W, C], bilinear, as the networks' last layer does (align_corners=False)."""
    logits = np.asarray(logits, np.float32)
    rows, columns = (_weights(large, small) for large, small in zip(sides, logits.shape[-3:-1], strict=True))
    *outer, height, width, classes = logits.shape
    tall = (rows @ logits.reshape(*outer, height, width * classes)).reshape(*outer, sides[0], width, classes)
    return columns @ tall


def _weights(large: int, small: int) -> np.ndarray:
    """[large, small]: what each old place gives each new one, whose middle lies at (i + 1/2) small / large - 1/2."""
    place = np.clip((np.arange(large) + 0.5) * small / large - 0.5, 0, small - 1)
    low = np.floor(place).astype(int)
    high, share = np.minimum(low + 1, small - 1), (place - low).astype(np.float32)
    found = np.zeros((large, small), np.float32)
    np.add.at(found, (np.arange(large), low), 1 - share)
    np.add.at(found, (np.arange(large), high), share)
    return found


def confusion(answers: ArrayLike, masks: ArrayLike, classes: int) -> np.ndarray:
    """Pixels int64 [C, C]: rows are the truth, columns the answer; arrays of one shape, void left out."""
    answers, masks = np.asarray(answers), np.asarray(masks)
    if answers.shape != masks.shape:
        raise UserError(f"answers {list(answers.shape)} and masks {list(masks.shape)} must have one shape")
    kept = masks != VOID
    truth, said = masks[kept].astype(np.int64), answers[kept].astype(np.int64)
    for name, values in (("masks", truth), ("answers", said)):
        if values.size and not 0 <= values.min() <= values.max() < classes:
            raise UserError(f"{name} hold classes {values.min()} to {values.max()}, not 0 to {classes - 1}")
    return np.bincount(truth * classes + said, minlength=classes**2).reshape(classes, classes)


def iou(counts: np.ndarray) -> list[float | None]:
    """TP / (TP + FP + FN) of each class; None for one that occurs neither in truth nor in answers."""
    both = counts.diagonal()
    union = counts.sum(0) + counts.sum(1) - both
    return [int(b) / int(u) if u else None for b, u in zip(both, union, strict=True)]


def miou(counts: np.ndarray) -> float | None:
    """The mean over the classes that occur; None where there is no pixel."""
    known = [value for value in iou(counts) if value is not None]
    return sum(known) / len(known) if known else None


def scores(counts: np.ndarray) -> dict[str, Any]:
    total = int(counts.sum())
    return {
        "miou": miou(counts),
        "pixel_accuracy": int(counts.trace()) / total if total else None,
        "iou": iou(counts),
    }


class Tally:
    """What every branch and each average answered, image after image."""

    def __init__(self, splits: int, classes: int):
        self.classes = classes
        self.branches = np.zeros((splits, classes, classes), np.int64)
        self.averages = {name: np.zeros((classes, classes), np.int64) for name in AVERAGES}
        self._different = self._pairs = 0

    def add(self, logits: np.ndarray, mask: np.ndarray) -> None:
        """Logits [S, h, w, C] of one image at any stride, and its mask [H, W]."""
        kept = mask != VOID
        if not kept.any():
            return
        pixels = enlarged(logits, mask.shape)[:, kept].swapaxes(0, 1)  # [P, S, C]
        truth, answers = mask[kept], pixels.argmax(-1)
        for s in range(len(self.branches)):
            self.branches[s] += confusion(answers[:, s], truth, self.classes)
        for name, counts in self.averages.items():
            counts += confusion(combine(pixels, name).argmax(-1), truth, self.classes)
        for a in range(answers.shape[1]):
            for b in range(a):
                self._different += int((answers[:, a] != answers[:, b]).sum())
                self._pairs += len(truth)

    @property
    def disagreement(self) -> float:
        """Mean over pairs of branches of the share of pixels they answer differently; 0 for one branch."""
        return self._different / self._pairs if self._pairs else 0.0


def evaluation(
    tally: Tally,
    average: str,
    split: str,
    select: str,
    weights: str,
    class_names: Sequence[str],
    **more: Any,
) -> dict[str, Any]:
    """What evaluation_<split>.json holds of scenes; null for what is undefined."""
    checked_average(average)
    checked_run(select, weights)
    counts = tally.averages[average]
    return {
        "format": FORMAT,
        "task": "segmentation",
        "split": split,
        "select": select,
        "weights": weights,
        "branches": [scores(found) for found in tally.branches],
        "ensemble": scores(counts),
        "average": average,
        "averages": {name: miou(found) for name, found in tally.averages.items()},
        "diversity": {"disagreement": tally.disagreement},
        "confusion": counts.tolist(),
        "class_names": [str(name) for name in class_names],
        **more,
    }
