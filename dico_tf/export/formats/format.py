"""Interface of an export format. To add one, write a module beside this one and add a line to registry.py."""

import abc
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dico_tf.errors import UserError

if TYPE_CHECKING:  # these import TensorFlow
    from dico_tf.export.convert import Frozen
    from dico_tf.export.graph import ExportMember

Advance = Callable[[int], None]  # called with the number of images done since the last call


class TimedLogits(NamedTuple):
    """Logits of all images, and the milliseconds that a file took for one image."""

    logits: np.ndarray  # [N, C]
    milliseconds: float  # of one image: median over calls


class Job(NamedTuple):
    """The files of one format to write for one member."""

    member: "ExportMember"
    saved_model: Path  # already written; other formats may be converted from it
    files: dict[str, Path]  # by kind


def installed(package: str) -> bool:
    """Return whether a package can be imported, without importing it."""
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # a test blocks the import
        return False


class Format(abc.ABC):
    """Write, open, describe and check the files of one format."""

    name: str  # in --formats, and of the folder in the export
    title: str  # in messages
    kinds: tuple[str, ...]  # the keys of its files in the manifest, the safest first
    suffix: str  # of file names, e.g. ".onnx"
    packages: tuple[str, ...] = ()  # imported to write or open a file, and not installed with dico_tf
    extra: str = ""  # the extra of dico_tf that installs them
    exact: tuple[str, ...] = ()  # kinds whose weights are not rounded
    tolerance = 1e-3  # largest difference of an exact kind's logits, relative to the largest logit
    fixed_batch = False  # True: --tflite_batch sets the batch size; False: any batch size
    optional = True  # False: written for every export, because other formats are converted from it

    def require(self) -> None:
        """Raise UserError if a package is missing."""
        missing = [package for package in self.packages if not installed(package)]
        if missing:
            raise UserError(
                f"--formats={self.name} needs {', '.join(self.packages)}, and {', '.join(missing)} cannot be imported: "
                f'pip install "dico_tf[{self.extra}]"'
            )

    def path(self, folder: Path, member: str, kind: str) -> Path:
        """Return the path of a member's file in the `folder` of an export."""
        several = f"_{kind}" if len(self.kinds) > 1 else ""
        return folder / self.name / f"{member}{several}{self.suffix}"

    @abc.abstractmethod
    def write(self, jobs: Sequence[Job], batch: int, calibration: Path | None) -> dict[Path, str]:
        """Write all files of the jobs. Return {path: reason} for each file that cannot be written.

        Args:
            batch: images per call, 0 = any number; a format without `fixed_batch` ignores it.
            calibration: .npy file of uint8 images [N, H, W, 3] that calibrate 8-bit kinds; None = there are none.
        """

    @abc.abstractmethod
    def open(self, path: Path) -> Callable[[np.ndarray, Advance], TimedLogits]:
        """Load a file into the format's own runtime.

        Returns a function of uint8 images [N, H, W, 3] and a callback for progress, which gives logits and time.
        """

    @abc.abstractmethod
    def describe(self, path: Path) -> dict[str, Any]:
        """Return what a file's entry in the manifest contains in addition to path, sha256, bytes and batch."""

    def check(self, path: Path, images: np.ndarray, expected: np.ndarray) -> dict[str, float]:
        """Compare a file with its network. Raises UserError if logits differ by more than rounding.

        Args:
            path: a file of one of the kinds `exact`, whose weights are not rounded.
            images: uint8 [N, H, W, 3].
            expected: the network's logits [N, C] of these images.

        Returns:
            "largest_difference" of a logit, and, for converted files, "milliseconds" of one image.
        """
        outcome = self.open(path)(images, lambda count: None)
        difference = float(abs(outcome.logits - expected).max())
        if not difference <= self.tolerance * max(1.0, float(abs(expected).max())):
            instead = f"leave {self.name} out of --formats, and " if self.optional else ""
            raise UserError(
                f"{path.name}: expected the logits of its network, got logits that differ by {difference:.3g}; "
                f"{instead}report this as a bug"
            )
        return {"largest_difference": difference, "milliseconds": round(outcome.milliseconds, 4)}


class ConvertedFormat(Format):
    """A format whose files are converted from SavedModels, in a separate process whose memory is freed at its end."""

    @abc.abstractmethod
    def convert(self, network: "Frozen", kind: str, images: np.ndarray | None) -> bytes:
        """Return the content of a file of this kind. Runs in the converter's process.

        Args:
            network: the SavedModel's signature serving_default, with the batch size of the file.
            images: uint8 [N, H, W, 3] that calibrate 8-bit kinds; None = there are none.
        """

    def write(self, jobs: Sequence[Job], batch: int, calibration: Path | None) -> dict[Path, str]:
        from dico_tf.export import converter_process

        return converter_process.convert(self, jobs, batch if self.fixed_batch else 0, calibration)
