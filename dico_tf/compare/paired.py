"""Paired comparison of two classifiers that were trained several times and tested on the same images."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from dico_tf.compare.student_t import quantile, two_sided_p

CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class PairedDifference:
    """Difference of two accuracies, with the two variances of its 95 % interval mean +- half."""

    mean: float
    half: float
    of_subsets: float  # s^2
    of_images: float  # v
    p: float  # two-sided; of the hypothesis that the true difference is 0


def paired_difference(one: np.ndarray, other: np.ndarray, tested: np.ndarray | None = None) -> PairedDifference:
    """Return the accuracy of `one` minus that of `other`, with mean +- t(R-1) sqrt(s^2/R + v/N).

    s^2 is the variance over the R trainings of a training's difference. v is the variance over the N test images of an
    image's difference, the mean over the trainings that tested it. t is Student's 97.5 % quantile. The interval of one
    training is infinite, and its p is 1.

    Args:
        one: bool [R, N], the right answers to N test images after each of R trainings: with R seeds, or on R subsets.
        other: the same of the other classifier, with the same seeds or subsets and images.
        tested: bool [R, N], the images that each training was tested on; None = all. Every image needs at least one.
    """
    if one.shape != other.shape or one.ndim != 2:
        raise ValueError(f"expected two arrays [subsets, images] of one shape, got {one.shape} and {other.shape}")
    everything = np.ones(one.shape, bool) if tested is None else tested
    difference = np.where(everything, one.astype(np.float64) - other, 0.0)
    trainings, images = difference.shape
    of_training = difference.sum(1) / everything.sum(1)
    of_image = difference.sum(0) / everything.sum(0)
    mean = float(of_training.mean())
    of_images = float(of_image.var(ddof=1)) if images > 1 else math.inf
    if trainings == 1:
        return PairedDifference(mean, math.inf, math.inf, of_images, 1.0)
    of_subsets = float(of_training.var(ddof=1))
    error = math.sqrt(of_subsets / trainings + of_images / images)
    half = quantile(CONFIDENCE, trainings - 1) * error
    return PairedDifference(mean, half, of_subsets, of_images, _p(mean, error, trainings - 1))


def _p(mean: float, error: float, freedom: int) -> float:
    if not error:
        return float(not mean)
    return two_sided_p(mean / error, freedom)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number by Holm's step-down rule, in the same order.

    Calling those below 0.05 significant errs in 5 % of families at most, however the comparisons depend on each other.
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, position in enumerate(sorted(range(len(p_values)), key=lambda n: p_values[n])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[position]))
        adjusted[position] = largest
    return adjusted
