"""What is held out of the training images."""

import numpy as np

from dico_tf.data.epoch_order import shuffled
from dico_tf.data.source import Split


def carve(split: Split, count: int, seed: int) -> tuple[Split, Split | None]:
    """(train, validation): min(count, N // 10) images are held out by seed, each part in its stored order."""
    count = min(count, split.size // 10)
    if not count:
        return split, None
    drawn = shuffled(split.size, seed)
    return split.subset(np.sort(drawn[count:])), split.subset(np.sort(drawn[:count]))


def stratified(labels: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions (kept, drawn): of every class its share, at least one image, and never its last."""
    drawn = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = min(max(round(share * len(members)), 1), len(members) - 1)
        drawn.append(members[shuffled(len(members), seed, int(label) + 1)[:count]])
    test = np.sort(np.concatenate(drawn)).astype(np.int64)
    return np.setdiff1d(np.arange(len(labels)), test), test
