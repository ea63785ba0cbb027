"""Paired comparison of two classifiers that were trained on several subsets and tested on the same images."""

import base64
import dataclasses
import math

import numpy as np


@dataclasses.dataclass(frozen=True)
class PairedDifference:
    """Difference of two accuracies, with the two variances of its 95 % interval mean +- half."""

    mean: float
    half: float
    of_subsets: float  # s^2
    of_images: float  # v


def paired_difference(one: np.ndarray, other: np.ndarray) -> PairedDifference:
    """Return the accuracy of `one` minus that of `other`, with mean +- t(R-1) sqrt(s^2/R + v/N).

    s^2 is the variance over the subsets of a subset's difference. v is the variance over the test images of an image's
    difference, the mean over the subsets. t is Student's 97.5 % quantile. The interval of one subset is infinite.

    Args:
        one: bool [R, N], the right answers to N test images after training on each of R subsets.
        other: the same of the other classifier, on the same subsets and images.
    """
    if one.shape != other.shape or one.ndim != 2:
        raise ValueError(f"expected two arrays [subsets, images] of one shape, got {one.shape} and {other.shape}")
    difference = one.astype(np.float64) - other
    subsets, images = difference.shape
    of_images = float(difference.mean(0).var(ddof=1))
    if subsets == 1:
        return PairedDifference(float(difference.mean()), math.inf, math.inf, of_images)
    from scipy.special import stdtrit

    of_subsets = float(difference.mean(1).var(ddof=1))
    half = float(stdtrit(subsets - 1, 0.975)) * math.sqrt(of_subsets / subsets + of_images / images)
    return PairedDifference(float(difference.mean()), half, of_subsets, of_images)


def pack(right: np.ndarray) -> str:
    """Return bool [N] as text, 4 characters for 24 images."""
    return base64.b64encode(np.packbits(right)).decode("ascii")


def unpack(text: str, images: int) -> np.ndarray:
    """Return the bool [images] that `pack` was given."""
    return np.unpackbits(np.frombuffer(base64.b64decode(text), np.uint8), count=images).astype(bool)
