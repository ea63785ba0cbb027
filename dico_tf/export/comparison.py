"""Comparison of a converted file with its network: scores, and an exact paired test of the loss of accuracy."""

import dataclasses
import math
from typing import Any

import numpy as np

from dico_tf.evaluation import metrics

SIGNIFICANCE = 0.05
_ROUNDING = 1e-6  # images: a smaller loss is a rounding error


@dataclasses.dataclass(frozen=True, kw_only=True)
class AccuracyLoss:
    """Loss of accuracy by a conversion, counted on the same images as the network's own accuracy."""

    images: int  # all that were compared
    lost: int  # only the network is right
    won: int  # only the conversion is right
    allowed: float = 0.0  # percentage points of accuracy that may be lost

    @property
    def points(self) -> float:
        """The lost accuracy in percentage points; negative if the conversion is more accurate."""
        return 100 * (self.lost - self.won) / self.images

    @property
    def p_value(self) -> float:
        """The probability of at least `lost` lost images if the true loss is exactly the allowed one.

        Let a be the allowed loss as a number of images, and n = lost + won. Then the lost images are binomial, with n
        trials of probability 1/2 + a / (2 n). For a = 0 this is McNemar's exact one-sided test. The result is 1 if
        lost - won is not above a.
        """
        differing, may = self.lost + self.won, self.allowed / 100 * self.images
        if self.lost - self.won <= may + _ROUNDING:
            return 1.0
        return binomial_tail(self.lost, differing, 0.5 + may / (2 * differing))

    @property
    def significant(self) -> bool:
        """True if the loss is above the allowed one at the 5 % level."""
        return self.p_value < SIGNIFICANCE


def binomial_tail(least: int, count: int, share: float) -> float:
    """Return the probability of at least `least` successes in `count` trials, each with probability `share`."""
    log_factorial = math.lgamma(count + 1)  # factorials would overflow

    def probability(k: int) -> float:
        ways = log_factorial - math.lgamma(k + 1) - math.lgamma(count - k + 1)
        return math.exp(ways + k * math.log(share) + (count - k) * math.log1p(-share))

    return min(1.0, math.fsum(map(probability, range(least, count + 1))))


def accuracy_loss(before: np.ndarray, after: np.ndarray, labels: np.ndarray, allowed: float = 0.0) -> AccuracyLoss:
    """Return the loss of accuracy from logits [N, C] of a network to those of its conversion.

    Args:
        before: the network's logits.
        after: the conversion's logits.
        labels: classes [N].
        allowed: percentage points of accuracy that may be lost.
    """
    right, still = before.argmax(1) == labels, after.argmax(1) == labels
    lost, won = int((right & ~still).sum()), int((~right & still).sum())
    return AccuracyLoss(images=len(labels), lost=lost, won=won, allowed=allowed)


def compare(logits: np.ndarray, expected: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Compare a file's logits [N, C] with those of its network, `expected`.

    Returns top1, nll and ece of the file, "largest_difference" of a logit, and "same_class", the share of images that
    both give the same class. If one of the file's logits is NaN or infinite, all of these have their worst values.
    """
    if not np.isfinite(logits).all():
        return {"top1": 0.0, "nll": np.inf, "ece": 1.0, "largest_difference": np.inf, "same_class": 0.0}
    return {
        **scores(logits, labels),
        "largest_difference": float(abs(logits - expected).max()),
        "same_class": float((logits.argmax(1) == expected.argmax(1)).mean()),
    }


def scores(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return top1 (0 to 1), nll and ece of logits [N, C] for labels [N]."""
    every = metrics.scores(logits, labels)
    return {name: every[name] for name in ("top1", "nll", "ece")}
