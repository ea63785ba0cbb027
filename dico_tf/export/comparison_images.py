"""Images on which files are compared with their networks, the networks' logits, and images that calibrate int8."""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np

from dico_tf.cotrain.dico import DiCo
from dico_tf.data.pipeline import plain_faults
from dico_tf.data.source import Split
from dico_tf.evaluation import evaluate
from dico_tf.training import steps
from dico_tf.training.build import TrainedRun
from dico_tf.training.progress import Bar


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ComparisonImages:
    """Comparison images with labels and logits, and calibration images. An export without them keeps the defaults."""

    split: str = ""  # of the comparison images
    images: np.ndarray | None = None  # uint8 [N, H, W, 3]
    labels: np.ndarray | None = None  # [N]
    logits: np.ndarray | None = None  # [N, S, C] of the branches, in float32
    calibration: Path | None = None  # .npy file of uint8 training images [N, H, W, 3]
    calibration_images: int = 0
    calibration_sha256: str = ""

    @classmethod
    def load(
        cls, run: TrainedRun, model: DiCo, place: Path, data_dir: str, compare: int, calibrate: int
    ) -> "ComparisonImages":
        """Load images of a run's data and compute the branches' logits.

        Args:
            place: folder for the file of calibration images.
            data_dir: folder of the TFDS data, as --data_dir; "" = that of the training.
            compare: number of comparison images, from validation, or from test if there is no validation split.
            calibrate: number of calibration images, from train.

        Both numbers may be 0. A split with fewer images gives all it has.
        """
        if not compare and not calibrate:
            return cls()
        parts = evaluate.load_splits(run, data_dir)
        fields = {}
        if compare:
            name = "validation" if "validation" in parts else "test"
            part = _some(parts[name], compare)
            with plain_faults():
                images = part.take(np.arange(part.size))
                fields = {"split": name, "images": images, "labels": part.labels, "logits": _logits(run, model, part)}
        if calibrate:
            fields |= _calibration(_some(parts["train"], calibrate), place)
        return cls(**fields)


def _logits(run: TrainedRun, model: DiCo, part: Split) -> np.ndarray:
    bar = Bar("running the network", part.size)
    try:
        return steps.predict(model, part, run.config.run.evaluation_batch_size, bar)
    finally:
        bar.close()


def _some(split: Split, count: int) -> Split:
    """Return `count` images spread evenly over the split, or all if it has fewer."""
    count = min(count, split.size)
    return split.subset(np.linspace(0, split.size - 1, count).round().astype(int))


def _calibration(split: Split, place: Path) -> dict[str, object]:
    with plain_faults():
        images = split.take(np.arange(split.size))
    path = place / "calibration.npy"
    with path.open("wb") as stream:  # np.save does not report why a write fails
        np.lib.format.write_array_header_1_0(stream, np.lib.format.header_data_from_array_1_0(images))
        stream.write(images)
    sha256 = hashlib.sha256(images.tobytes()).hexdigest()
    return {"calibration": path, "calibration_images": len(images), "calibration_sha256": sha256}
