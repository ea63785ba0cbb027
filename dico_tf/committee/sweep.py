"""Cost and score of every setting of the gates at once, by histograms and their cumulative sums.

Gate k has Q candidates: the quantiles 0, 1/P ... (P-1)/P of its confidences, and never. Equal quantiles count once, so
that Q is at most P + 1. An image's bin at stage k is the number of candidates that its confidence reaches. If the gate
is candidate j, counted from 0, the image stops at stage k exactly if bin > j. So for settings (j_1 ... j_{n-1}) the
images that come to stage k are those with bin_i <= j_i for all i < k. Cumulative sums of the histogram of (bin_1 ...
bin_{k-1}), along each axis, count them. O(n N + n Q^(n-1)) for Q^(n-1) settings.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from dico_tf.committee.decision import NEVER


@dataclasses.dataclass(frozen=True, eq=False)
class Sweep:
    """Results of all settings of the n - 1 gates of n members. A gate has Q candidates; Q may differ between gates."""

    candidates: tuple[np.ndarray, ...]  # of each gate, rising; the last is NEVER
    reached: tuple[np.ndarray, ...]  # for each stage, number of images that come to it: int64 [1 or Q] * (n - 1)
    score: np.ndarray  # sum over the images of the score of the stage where they stop: [Q] * (n - 1), or [..., D]
    images: int

    @property
    def settings(self) -> int:
        return int(np.prod(self.shape))

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(len(gate) for gate in self.candidates)

    def average(self, costs: Sequence[float]) -> np.ndarray:
        """Return the mean cost of an image for every setting, [Q] * (n - 1), from the cost of each member."""
        total = np.zeros(self.shape)
        for cost, reached in zip(costs, self.reached, strict=True):
            total += cost * reached
        return total / self.images

    def gates(self, setting: int) -> tuple[float, ...]:
        """Return the gates of a setting, given by its flat index."""
        places = np.unravel_index(setting, self.shape)
        return tuple(float(of[place]) for of, place in zip(self.candidates, places, strict=True))


def quantiles(confidences: np.ndarray, percentiles: int) -> np.ndarray:
    """Return the candidates of one gate, rising: up to `percentiles` distinct confidences, then NEVER.

    They are quantiles, the first of which is the smallest confidence; NaN is left out.
    """
    finite = np.sort(confidences[~np.isnan(confidences)])
    if not len(finite):
        return np.array([NEVER])
    places = (np.arange(percentiles) * len(finite)) // percentiles
    return np.append(np.unique(finite[places]).astype(np.float64), NEVER)


def bins(confidences: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Return how many candidates each confidence reaches, int [N]; NaN reaches none, and none reaches NEVER."""
    reached = np.searchsorted(candidates[:-1], confidences, side="right")
    reached[np.isnan(confidences)] = 0
    return reached


def sweep(confidences: np.ndarray, scores: np.ndarray, percentiles: int = 100) -> Sweep:
    """Return the results of every setting of the gates of n members on N images.

    Args:
        confidences: [N, n], after each stage.
        scores: [N, n] or [N, n, D], of an image that stops at each stage; sums of integers or bools are exact.
        percentiles: largest number of candidates for each gate besides NEVER; equal quantiles count once.
    """
    images, stages = scores.shape[:2]
    candidates = tuple(quantiles(confidences[:, k], percentiles) for k in range(stages - 1))
    sizes = [len(gate) for gate in candidates]  # bins are 0 .. Q-1: no confidence reaches NEVER
    binned = [bins(confidences[:, k], gate) for k, gate in enumerate(candidates)]
    reached, total = [], np.zeros((*sizes, *scores.shape[2:]), np.float64 if scores.dtype.kind == "f" else np.int64)
    flat = np.zeros(images, np.int64)
    for k in range(stages):
        before = (*sizes[:k], *[1] * (stages - 1 - k))
        reached.append(_summed(flat, np.ones(images, np.int64), sizes[:k]).reshape(before))
        total += _summed(flat, scores[:, k], sizes[:k]).reshape((*before, *scores.shape[2:]))  # who come here ...
        if k < stages - 1:
            flat = flat * sizes[k] + binned[k]
            after = (*sizes[: k + 1], *[1] * (stages - 2 - k))
            total -= _summed(flat, scores[:, k], sizes[: k + 1]).reshape((*after, *scores.shape[2:]))  # less who go on
    return Sweep(candidates, tuple(reached), total, images)


def _summed(flat: np.ndarray, values: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """Return, for every (j_1 ...), the sum of values [N] or [N, D] over all images with bin_i <= j_i.

    The result has the shape `sizes`, and D as its last axis if the values have it.

    flat: index [N] of each image's (bin_1 ...) in an array of shape `sizes`.
    """
    count = int(np.prod(sizes, dtype=np.int64))
    if values.ndim == 1:
        sums = np.bincount(flat, values, count)
        sums = sums if values.dtype.kind == "f" else np.rint(sums).astype(np.int64)
    else:
        sums = np.zeros((count, *values.shape[1:]), np.float64 if values.dtype.kind == "f" else np.int64)
        np.add.at(sums, flat, values)
    sums = sums.reshape((*sizes, *values.shape[1:]))
    for axis in range(len(sizes)):
        sums = np.cumsum(sums, axis)
    return sums
