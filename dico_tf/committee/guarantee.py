"""How far gates may be opened so that a committee seldom errs where its reference did not.

The loss of an image is 1 where the reference (the full ensemble, or the largest member) is right and the committee is
wrong. A path of settings leads from the safest, never to stop early, to the cheapest; it is laid on other images than
those that test it, so that it is fixed as far as these are concerned.

probable (Learn then Test, arXiv 2110.01052): settings are tested in the order of the path, each by the exact binomial
p = P(Binomial(n, risk) <= losses); the first with p > 1 - confidence ends it. With that confidence the last one that
passed has a true loss of at most `risk`, however long the path is.
expected (conformal risk control, arXiv 2208.02814): the loss is made to rise along the path by its running maximum; the
last setting with (losses + 1) / (n + 1) <= risk. The loss of a new image is at most `risk` in the mean.
"""

import dataclasses
import math

import numpy as np

from dico_tf.committee.statistics import binomial_tail
from dico_tf.errors import UserError

KINDS = ("probable", "expected")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Guarantee:
    risk: float = 0.01
    confidence: float = 0.95
    kind: str = "probable"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UserError(f"--guarantee={self.kind} is none of {', '.join(KINDS)}")
        if not (0 < self.risk < 1 and 0 < self.confidence < 1):
            raise UserError(f"--risk={self.risk:g} and --confidence={self.confidence:g} must be above 0 and below 1")


@dataclasses.dataclass(frozen=True)
class Certified:
    place: int  # of the last setting of the path that keeps the promise; 0, the safest, needs no test
    losses: int  # of the images that tested it
    images: int
    needed: int  # images with which the next setting might have passed; 0 where the path ends


def certify(losses: np.ndarray, promise: Guarantee) -> Certified:
    """losses bool [settings, N] along the path; setting 0 is the reference itself, or never loses against it."""
    losses = np.asarray(losses, bool)
    images = losses.shape[1]
    if losses[0].any():
        raise ValueError("the first setting of the path loses against the reference: there is nothing to fall back on")
    counts = _counts(losses, promise.kind)
    place = 0
    for candidate in range(1, len(counts)):
        if not passes(int(counts[candidate]), images, promise):
            return Certified(place, int(counts[place]), images, needed(int(counts[candidate]), images, promise))
        place = candidate
    return Certified(place, int(counts[place]), images, 0)


def _counts(losses: np.ndarray, kind: str) -> np.ndarray:
    return (np.logical_or.accumulate(losses) if kind == "expected" else losses).sum(1)


def passes(losses: int, images: int, promise: Guarantee) -> bool:
    if promise.kind == "expected":
        return (losses + 1) / (images + 1) <= promise.risk
    return binomial_tail(losses, images, promise.risk) <= 1 - promise.confidence


def needed(losses: int, images: int, promise: Guarantee) -> int:
    """Images that would do if losses stayed as frequent as they were; 0 where no number would."""
    share = losses / images if images else 0.0
    if share >= promise.risk:
        return 0
    low, high = max(images, 1), max(images, 1)
    while not passes(math.ceil(share * high), high, promise):
        low, high = high, 2 * high
        if high > 10**8:
            return 0
    while high - low > max(low // 100, 1):
        middle = (low + high) // 2
        low, high = (low, middle) if passes(math.ceil(share * middle), middle, promise) else (middle, high)
    return high


def regret(reference_right: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The loss of every image: the reference was right, and this was not."""
    return reference_right & ~right
