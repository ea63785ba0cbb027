"""LiteRT files for devices, converted from SavedModels by TensorFlow."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dico_tf.export.formats.format import Advance, ConvertedFormat, TimedLogits
from dico_tf.files.manifest import LITERT

if TYPE_CHECKING:
    from dico_tf.export.convert import Frozen


class TFLite(ConvertedFormat):
    """LiteRT files in float32, float16, dynamic or int8, for one batch size or any.

    All kinds take float32 images, and give float32 outputs and an int64 class_id.
    """

    name = "tflite"
    title = "LiteRT"
    kinds = LITERT
    suffix = ".tflite"
    exact = ("float32",)
    fixed_batch = True

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
