"""Splitting a dataset into train, validation and test, reducing its training images, and counting its classes."""

import dataclasses

import numpy as np

from dico_tf.data.epoch_order import preference, shuffled, wrong_labels
from dico_tf.data.segmentation import VOID, SegmentationSplit
from dico_tf.data.source import Split
from dico_tf.errors import UserError

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


def nested_order(split: Split | SegmentationSplit, seed: int) -> np.ndarray:
    """Return the order, int64 [N], whose first n positions are the subset of n images that --train_images=n takes.

    Every class gives one image first, and then images in proportion to its size: its share of the n images, up to
    rounding. Images with masks have no such classes; their order is random.
    """
    if not isinstance(split, Split):
        return preference(split.size, seed)
    time = np.empty(split.size)  # at which an image is taken, if every class is used up at time 1
    for label in np.unique(split.labels):
        members = np.flatnonzero(split.labels == label)
        order = members[preference(len(members), seed, int(label) + 1)]
        time[order] = (np.arange(len(order)) + 0.5) / len(order)
        time[order[0]] = 0
    tie = preference(split.size, seed)
    return tie[np.argsort(time[tie], kind="stable")]


def reduced(split: Split | SegmentationSplit, count: int, noise: float, classes: int, seed: int):
    """Return the first `count` images of `nested_order`, in their stored order, some of them with wrong labels.

    An image's label, right or wrong, does not depend on `count`.

    Args:
        count: 0 = all images.
        noise: share (0..1) of wrong labels among the images of the split, before the subset is taken.
        classes: number of classes.

    Raises:
        UserError: there are fewer than `count` images, or there is no wrong class.
    """
    if count > split.size:
        raise UserError(f"--train_images={count} is more than the {split.size} training images: give at most that many")
    if noise and classes < 2:
        raise UserError(f"--label_noise={noise:g} needs at least two classes, got {classes}: leave it out")
    positions = np.sort(nested_order(split, seed)[:count]) if count else None
    if noise:
        split = dataclasses.replace(split, labels=wrong_labels(split.labels, noise, classes, seed))
    return split if positions is None else split.subset(positions)


def class_counts(split: Split | SegmentationSplit, classes: int) -> list[int]:
    """Return the number of images of each class. If the split has masks, return the number of pixels, void excluded."""
    if isinstance(split, Split):
        return np.bincount(split.labels, minlength=classes).tolist()
    counts = np.zeros(classes, np.int64)
    for start in range(0, split.size, AT_ONCE):
        masks = split.framed(np.arange(start, min(start + AT_ONCE, split.size)))[1]
        counts += np.bincount(masks[masks != VOID], minlength=classes)
    return counts.tolist()
