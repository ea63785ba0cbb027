"""Whether a conversion loses more accuracy than it may: an exact paired test of two networks on the same images."""

import dataclasses
import math

import numpy as np

SIGNIFICANCE = 0.05
_SAME = 1e-6  # images: below this a loss is rounding


@dataclasses.dataclass(frozen=True, kw_only=True)
class AccuracyLoss:
    """Images on which exactly one of a network and its conversion is right."""

    images: int
    lost: int  # only the network is right
    won: int  # only the conversion is right
    allowed: float = 0.0  # points of accuracy that may be lost

    @property
    def points(self) -> float:
        return 100 * (self.lost - self.won) / self.images

    @property
    def p_value(self) -> float:
        """Return the probability of at least `lost` lost images if the true loss is the one allowed.

        Of the n = lost + won images that differ, a share q = 1/2 + allowed / (2 n) is lost under this hypothesis, and
        their number is binomial. At allowed = 0 this is McNemar's exact test, one-sided.
        """
        differing, may = self.lost + self.won, self.allowed / 100 * self.images
        if self.lost - self.won <= may + _SAME:
            return 1.0
        return binomial_tail(self.lost, differing, 0.5 + may / (2 * differing))

    @property
    def significant(self) -> bool:
        return self.p_value < SIGNIFICANCE


def binomial_tail(least: int, count: int, share: float) -> float:
    """Return the probability of at least `least` successes in `count` trials, in logarithms: factorials overflow."""
    whole = math.lgamma(count + 1)

    def probability(k: int) -> float:
        ways = whole - math.lgamma(k + 1) - math.lgamma(count - k + 1)
        return math.exp(ways + k * math.log(share) + (count - k) * math.log1p(-share))

    return min(1.0, math.fsum(map(probability, range(least, count + 1))))


def loss(before: np.ndarray, after: np.ndarray, labels: np.ndarray, allowed: float = 0.0) -> AccuracyLoss:
    """Compare logits [N, C] of a network with those of its conversion."""
    right, still = before.argmax(1) == labels, after.argmax(1) == labels
    lost, won = int((right & ~still).sum()), int((~right & still).sum())
    return AccuracyLoss(images=len(labels), lost=lost, won=won, allowed=allowed)
