"""What comes of asking a member: its vote, or the reason why there is none."""

import dataclasses
import enum
from collections.abc import Mapping

import numpy as np

Images = np.ndarray | Mapping[str, np.ndarray]  # [B, H, W, 3], or {member: [B, H, W, 3]}


class Cause(enum.Enum):
    UNREACHABLE = "cannot be reached"
    LATE = "had not answered by the deadline"
    BUSY = "is busy"
    UNUSABLE = "answered what cannot be used"
    FOREIGN = "is of another export"
    REFUSED = "refused the request"
    DISMISSED = "was not waited for: the quorum was out of reach"
    RESTING = "failed too often and is left alone until a probe succeeds"


FAULTS = {Cause.UNREACHABLE, Cause.LATE, Cause.UNUSABLE}  # the address's own: they open its circuit


@dataclasses.dataclass(frozen=True, eq=False)
class Vote:
    logits: np.ndarray  # float32 [B, C], finite
    export: str  # the id of the manifest its network came with, or a TF Serving version
    known: bool = True  # False where that says nothing of the export


@dataclasses.dataclass(frozen=True)
class Missing:
    why: Cause
    detail: str = ""

    @property
    def reason(self) -> str:
        return f"{self.why.value}: {self.detail}" if self.detail else self.why.value


Outcome = Vote | Missing


def of(images: Images, member: str) -> np.ndarray:
    return images[member] if isinstance(images, Mapping) else images


def count(images: Images) -> int:
    return len(next(iter(images.values())) if isinstance(images, Mapping) else images)
