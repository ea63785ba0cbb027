"""Input and result of a call to one member: images, and a vote or the cause why there is none."""

import dataclasses
import enum
from collections.abc import Mapping

import numpy as np

Images = np.ndarray | Mapping[str, np.ndarray]  # [B, H, W, 3], or {member: [B, H, W, 3]} if input sizes differ


class Cause(enum.Enum):
    """Causes of a missing vote; the text follows the member's name in messages."""

    UNREACHABLE = "cannot be reached"
    LATE = "had not answered by the deadline"
    BUSY = "is busy"
    UNUSABLE = "sent an unusable answer"
    FOREIGN = "is of another export"
    REFUSED = "refused the request"
    DISMISSED = "was not waited for, because the quorum could not be reached any more"
    RESTING = "is skipped after repeated failures, until a health probe and a trial call succeed"


FAULTS = {Cause.UNREACHABLE, Cause.LATE, Cause.UNUSABLE}  # faults of the address: they open its circuit


@dataclasses.dataclass(frozen=True, eq=False)
class Vote:
    """A member's answer for B images."""

    logits: np.ndarray  # [B, C], floats; Replica.ask returns only finite ones
    export: str  # the manifest's id, or a version of TensorFlow Serving
    known: bool = True  # False if `export` is only a version of TensorFlow Serving


@dataclasses.dataclass(frozen=True)
class Missing:
    """The cause why a member has no vote."""

    cause: Cause
    detail: str = ""

    @property
    def reason(self) -> str:
        """Text that follows the member's name in messages, e.g. "is busy" or "refused the request: NOT_FOUND"."""
        return f"{self.cause.value}: {self.detail}" if self.detail else self.cause.value


Outcome = Vote | Missing


def images_of(images: Images, member: str) -> np.ndarray:
    """Return the images that one member takes."""
    return images[member] if isinstance(images, Mapping) else images


def image_count(images: Images) -> int:
    """Return the number of images of a request."""
    return len(next(iter(images.values())) if isinstance(images, Mapping) else images)
