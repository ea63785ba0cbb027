"""LiteRT files for devices."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dico_tf.export.formats.format import Advance, Format, Job, TimedLogits
from dico_tf.files.manifest import LITERT

if TYPE_CHECKING:
    from dico_tf.export.convert import Frozen


class TFLite(Format):
    """LiteRT files with float32 inputs and outputs and a fixed batch size."""

    name = "tflite"
    title = "LiteRT"
    kinds = LITERT
    suffix = ".tflite"
    exact = ("float32",)
    fixed_batch = True

    def write(self, jobs: Sequence[Job], batch: int, calibration: Path | None) -> dict[Path, str]:
        from dico_tf.export import converter_process

        return converter_process.convert(self, jobs, batch, calibration)

    def convert(self, network: "Frozen", kind: str, images: np.ndarray | None) -> bytes:
        from dico_tf.export import convert

        return convert.to_tflite(network, kind, images)

    def open(self, path: Path) -> Callable[[np.ndarray, Advance], TimedLogits]:
        from dico_tf.export import litert

        return lambda images, advance: litert.run(path, images, advance)

    def describe(self, path: Path) -> dict[str, Any]:
        from dico_tf.export import litert

        return litert.signature(path)


FORMAT = TFLite()
