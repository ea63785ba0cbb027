"""Splitting datasets: images held out of training, stratified test splits, and how often each class occurs."""

import numpy as np

from dico_tf.data.epoch_order import shuffled
from dico_tf.data.segmentation import VOID, SegmentationSplit
from dico_tf.data.source import Split

AT_ONCE = 32  # masks that are read at a time


def carve(split: Split, count: int, seed: int) -> tuple[Split, Split | None]:
    """Return (train, validation): min(count, N // 10) random images are held out; both parts keep the stored order."""
    count = min(count, split.size // 10)
    if not count:
        return split, None
    order = shuffled(split.size, seed)
    return split.subset(np.sort(order[count:])), split.subset(np.sort(order[:count]))


def stratified(labels: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of (the rest, a random share of every class).

    The share takes at least one image of a class, but never the last one.
    """
    chosen = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = min(max(round(share * len(members)), 1), len(members) - 1)
        chosen.append(members[shuffled(len(members), seed, int(label) + 1)[:count]])
    test = np.sort(np.concatenate(chosen)).astype(np.int64)
    return np.setdiff1d(np.arange(len(labels)), test), test


def class_counts(split: Split | SegmentationSplit, classes: int) -> list[int]:
    """Return the number of images of each class, or of pixels where a split has masks."""
    if isinstance(split, Split):
        return np.bincount(split.labels, minlength=classes).tolist()
    counts = np.zeros(classes, np.int64)
    for start in range(0, split.size, AT_ONCE):
        masks = split.framed(np.arange(start, min(start + AT_ONCE, split.size)))[1]
        counts += np.bincount(masks[masks != VOID], minlength=classes)
    return counts.tolist()
