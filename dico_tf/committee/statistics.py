"""Confidence intervals and tests, exact where an exact one exists."""

import math

import numpy as np

_Z = 1.959963984540054  # of a two-sided 95 % interval


def wilson(right: int, images: int) -> tuple[float, float]:
    """Return the 95 % interval of the share right / images, Wilson (1927); (0, 1) if there are no images."""
    if not images:
        return 0.0, 1.0
    share, z2 = right / images, _Z**2
    middle = (share + z2 / (2 * images)) / (1 + z2 / images)
    half = _Z / (1 + z2 / images) * math.sqrt(share * (1 - share) / images + z2 / (4 * images**2))
    return max(middle - half, 0.0), min(middle + half, 1.0)


def of_mean(values: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of the mean of many values, by the normal distribution; infinite for one value."""
    mean, spread = float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else math.inf
    return mean - _Z * spread / math.sqrt(len(values)), mean + _Z * spread / math.sqrt(len(values))


def binomial_tail(successes: int, trials: int, share: float) -> float:
    """Return P(X <= successes) for X ~ Binomial(trials, share)."""
    if successes >= trials or share <= 0:
        return 1.0
    if successes < 0 or share >= 1:
        return 0.0
    k = np.arange(1, successes + 1)
    ratios = np.log((trials - k + 1) / k) + math.log(share) - math.log1p(-share)  # of P(X = k) to P(X = k - 1)
    logs = trials * math.log1p(-share) + np.concatenate([[0.0], np.cumsum(ratios)])
    top = logs.max()
    return min(float(np.exp(top) * np.exp(logs - top).sum()), 1.0)


def bootstrap_gap(one: np.ndarray, other: np.ndarray, seed: int = 0, times: int = 2000) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of mean(one) - mean(other) for two independent samples of bools.

    The mean of a resample of bools is a binomial draw. `times` is the number of resamples.
    """
    random = np.random.default_rng(seed)
    means = [random.binomial(len(part), part.mean(), times) / len(part) for part in (one, other)]
    low, high = np.quantile(means[0] - means[1], (0.025, 0.975))
    return float(low), float(high)


def mcnemar(one: np.ndarray, other: np.ndarray) -> float:
    """Return McNemar's exact two-sided p-value of "both are right equally often" on the same images.

    one, other: bool [N], whether each image is answered correctly.
    """
    only_one, only_other = int((one & ~other).sum()), int((~one & other).sum())
    return min(2 * binomial_tail(min(only_one, only_other), only_one + only_other, 0.5), 1.0)


def aurc(confidence: np.ndarray, right: np.ndarray) -> float:
    """Return the area under risk against coverage: the mean over n of the share of wrong answers among the n surest.

    All answers as sure as the n-th are included. NaN is the least sure.
    """
    levels, place = np.unique(np.nan_to_num(np.asarray(confidence, np.float64), nan=-np.inf), return_inverse=True)
    sizes, wrong = (np.bincount(place, weight, len(levels))[::-1] for weight in (None, ~np.asarray(right, bool)))
    covered = np.cumsum(sizes)
    return float((sizes * np.cumsum(wrong) / covered).sum() / covered[-1])
