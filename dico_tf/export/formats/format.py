"""What the pipeline asks of a format. A new one is a module beside this one and a line in registry.py."""

import abc
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dico_tf.errors import UserError

if TYPE_CHECKING:  # these import TensorFlow
    from dico_tf.export.convert import Frozen
    from dico_tf.export.graph import Member

Advance = Callable[[int], None]  # called with the number of images answered since


class TimedLogits(NamedTuple):
    logits: np.ndarray  # [N, C]
    milliseconds: float  # median of a call with one thread, divided by its images


class Job(NamedTuple):
    """Files to write of one member."""

    member: "Member"
    saved_model: Path  # written before all other formats, which may be made of it
    files: dict[str, Path]  # by kind


def installed(package: str) -> bool:
    """Return whether a package can be imported, without importing it."""
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # it was put out of reach
        return False


class Format(abc.ABC):
    """Write, open, describe and check the files of one format."""

    name: str  # of --formats, and of the folder in the export
    title: str  # for people
    kinds: tuple[str, ...]  # the keys of its files in the manifest, the safest first
    suffix: str
    packages: tuple[str, ...] = ()  # imported to write or open a file, and not installed with dico_tf
    extra: str = ""  # the extra of dico_tf that installs them
    exact: tuple[str, ...] = ()  # kinds that round no weights
    tolerance = 1e-3  # of the largest logit: how far the logits of an exact kind may be from the network's
    fixed_batch = False  # whether --tflite_batch sets the images of a call; else any number

    def require(self) -> None:
        """Raise UserError if a package is missing."""
        missing = [package for package in self.packages if not installed(package)]
        if missing:
            raise UserError(
                f"--formats={self.name} needs {', '.join(self.packages)}, and {', '.join(missing)} cannot be imported: "
                f'pip install "dico_tf[{self.extra}]"'
            )

    def path(self, made: Path, member: str, kind: str) -> Path:
        """Return where a member's file stands below the folder of an export."""
        several = f"_{kind}" if len(self.kinds) > 1 else ""
        return made / self.name / f"{member}{several}{self.suffix}"

    @abc.abstractmethod
    def write(self, jobs: Sequence[Job], batch: int, calibration: Path | None) -> dict[Path, str]:
        """Write all files. Return why, for each file that cannot be made."""

    def convert(self, network: "Frozen", kind: str, images: np.ndarray | None) -> bytes:
        """Return the content of a file, in the converter's process. For formats that are made of a SavedModel."""
        raise NotImplementedError(f"{self.name} is not made of SavedModels")

    @abc.abstractmethod
    def open(self, path: Path) -> Callable[[np.ndarray, Advance], TimedLogits]:
        """Return a function: uint8 images [N, H, W, 3] -> logits, computed by the format's own runtime."""

    @abc.abstractmethod
    def describe(self, path: Path) -> dict[str, Any]:
        """Return keys of the file's entry in the manifest besides path, sha256 and bytes."""

    def check(self, path: Path, images: np.ndarray, expected: np.ndarray) -> dict[str, float]:
        """Compare an exact kind's logits with the network's. Raises UserError if they differ by more than rounding."""
        outcome = self.open(path)(images, lambda count: None)
        difference = float(abs(outcome.logits - expected).max())
        if not difference <= self.tolerance * max(1.0, float(abs(expected).max())):
            raise UserError(
                f"{path.name} does not answer as its network does: expected equal logits, got a difference of "
                f"{difference:.3g}; leave {self.name} out of --formats, and report this"
            )
        return {"largest_difference": difference, "milliseconds": round(outcome.milliseconds, 4)}
