"""Splitting a dataset into train, validation and test, and counting its classes."""

import numpy as np

from dico_tf.data.epoch_order import shuffled
from dico_tf.data.segmentation import VOID, SegmentationSplit
from dico_tf.data.source import Split

AT_ONCE = 32  # masks that are read at a time


def carve(split: Split, count: int, seed: int) -> tuple[Split, Split | None]:
    """Return (train, validation): min(count, N // 10) random images of `split` become the validation split.

    Both parts keep the stored order. If that number is 0, the result is (split, None).
    """
    count = min(count, split.size // 10)
    if not count:
        return split, None
    order = shuffled(split.size, seed)
    return split.subset(np.sort(order[count:])), split.subset(np.sort(order[:count]))


def stratified(labels: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return two arrays of positions, (train, test): a random share (0..1) of every class is the test.

    Of n images of a class, round(share n) become test images: at least 1, but at most n - 1, so none if n is 1.
    """
    chosen = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = min(max(round(share * len(members)), 1), len(members) - 1)
        chosen.append(members[shuffled(len(members), seed, int(label) + 1)[:count]])
    test = np.sort(np.concatenate(chosen)).astype(np.int64)
    return np.setdiff1d(np.arange(len(labels)), test), test


def class_counts(split: Split | SegmentationSplit, classes: int) -> list[int]:
    """Return the number of images of each class. If the split has masks, return the number of pixels, void excluded."""
    if isinstance(split, Split):
        return np.bincount(split.labels, minlength=classes).tolist()
    counts = np.zeros(classes, np.int64)
    for start in range(0, split.size, AT_ONCE):
        masks = split.framed(np.arange(start, min(start + AT_ONCE, split.size)))[1]
        counts += np.bincount(masks[masks != VOID], minlength=classes)
    return counts.tolist()
