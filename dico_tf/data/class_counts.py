"""How often each class occurs in a split."""

import numpy as np

from dico_tf.data.masks import VOID
from dico_tf.data.segmentation import SegmentationSplit
from dico_tf.data.source import Split

AT_ONCE = 32  # masks that are read at a time


def class_counts(split: Split | SegmentationSplit, classes: int) -> list[int]:
    """Return the number of images of each class, or of pixels where a split has masks."""
    if isinstance(split, Split):
        return np.bincount(split.labels, minlength=classes).tolist()
    counts = np.zeros(classes, np.int64)
    for start in range(0, split.size, AT_ONCE):
        masks = split.framed(np.arange(start, min(start + AT_ONCE, split.size)))[1]
        counts += np.bincount(masks[masks != VOID], minlength=classes)
    return counts.tolist()
