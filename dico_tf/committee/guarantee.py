"""Statistical guarantees that a committee is seldom wrong where its reference is right.

The loss of an image is 1 if the reference (--reference) is right and the committee is wrong. A path of gate settings
leads from the safest, the reference itself, which has no loss, to the cheapest. The path is laid on other images than
those that test it, so it does not depend on them.

probable (Learn then Test, arXiv 2110.01052): settings are tested in the order of the path, each by the exact binomial
p = P(Binomial(n, risk) <= losses); the first with p > 1 - confidence ends the path. With that confidence, the last
setting that passed has a true loss of at most `risk`, however long the path is.
expected (conformal risk control, arXiv 2208.02814): an image that one setting loses also counts as lost by all settings
after it; the last setting with (losses + 1) / (n + 1) <= risk is taken. The loss of a new image is at most `risk` on
average.
"""

import dataclasses
import math

import numpy as np

from dico_tf.committee.statistics import binomial_tail
from dico_tf.errors import UserError

KINDS = ("probable", "expected")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Guarantee:
    """Values of the flags --risk, --confidence and --guarantee. Raises UserError if they are out of range."""

    risk: float = 0.01
    confidence: float = 0.95
    kind: str = "probable"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UserError(f"--guarantee must be one of {', '.join(KINDS)}, got {self.kind}")
        if not (0 < self.risk < 1 and 0 < self.confidence < 1):
            raise UserError(
                f"--risk and --confidence must be above 0 and below 1, got {self.risk:g} and {self.confidence:g}"
            )


@dataclasses.dataclass(frozen=True)
class Certified:
    """The last setting of a path before the first that failed its test."""

    place: int  # on the path; 0, the safest, needs no test
    losses: int  # among the images that tested it; if `expected`, of it or any setting before it
    images: int  # that tested it
    needed: int  # about how many of them the next setting needs to pass; 0 if no number would do, or none is next


def certify(losses: np.ndarray, guarantee: Guarantee) -> Certified:
    """Test the settings of a path in order, and return the last one before the first that fails.

    Setting 0, the reference, passes without a test. Raises ValueError if it has a loss.

    Args:
        losses: bool [settings, N], which images each setting loses.
    """
    losses = np.asarray(losses, bool)
    images = losses.shape[1]
    if losses[0].any():
        raise ValueError("the first setting of the path loses against the reference: there is nothing to fall back on")
    counts = _counts(losses, guarantee.kind)
    place = 0
    for candidate in range(1, len(counts)):
        if not passes(int(counts[candidate]), images, guarantee):
            return Certified(place, int(counts[place]), images, needed(int(counts[candidate]), images, guarantee))
        place = candidate
    return Certified(place, int(counts[place]), images, 0)


def _counts(losses: np.ndarray, kind: str) -> np.ndarray:
    """Return the number of losses of each setting; if `expected`, of images lost by it or any setting before it."""
    return (np.logical_or.accumulate(losses) if kind == "expected" else losses).sum(1)


def passes(losses: int, images: int, guarantee: Guarantee) -> bool:
    """Return whether so many losses among so many images pass the test of a guarantee."""
    if guarantee.kind == "expected":
        return (losses + 1) / (images + 1) <= guarantee.risk
    return binomial_tail(losses, images, guarantee.risk) <= 1 - guarantee.confidence


def needed(losses: int, images: int, guarantee: Guarantee) -> int:
    """Return about how many images the test needs to pass at this share of losses; 0 if no number would do."""
    share = losses / images if images else 0.0
    if share >= guarantee.risk:
        return 0
    low, high = max(images, 1), max(images, 1)
    while not passes(math.ceil(share * high), high, guarantee):
        low, high = high, 2 * high
        if high > 10**8:
            return 0
    while high - low > max(low // 100, 1):
        middle = (low + high) // 2
        low, high = (low, middle) if passes(math.ceil(share * middle), middle, guarantee) else (middle, high)
    return high


def regret(reference_right: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return bool [N], the loss of every image: the reference is right, and the committee is not."""
    return reference_right & ~right
