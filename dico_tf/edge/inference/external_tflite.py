"""A LiteRT file from elsewhere behind the interface of this project's own files: raw pixels in, logits out."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from dico_tf.edge.errors import EdgeError
from dico_tf.errors import UserError
from dico_tf.evaluation.members import preprocessing
from dico_tf.evaluation.members.output_decoding import OutputDecoder
from dico_tf.files.manifest import READING
from dico_tf.runtime.litert import LiteRT, TensorInfo

INPUT, LOGITS = "image", "logits"
_INPUT_TYPES = (np.float32, np.uint8, np.int8)


class ExternalRunner:
    """A function of image=float32 [B, H, W, 3], 0 to 255, that returns {"logits": float32 [B, C]}.

    `description` is the member's entry in the manifest: how to prepare pixels, and how to read the outputs.
    """

    def __init__(self, content: bytes, threads: int, description: Mapping[str, Any]):
        reading = _checked(description[READING])
        self._name, self._side = description["name"], description["input_size"]
        self._ranges = preprocessing.check_pixels(reading["pixels"])
        self._reading = OutputDecoder(reading["outputs"], reading["background"])
        self._model = LiteRT(content, threads)
        inputs = self._model.inputs
        if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].dtype not in _INPUT_TYPES:
            raise ValueError("its input must be one image in float32, uint8 or int8")
        self._image, self._output = inputs[0], self._model.outputs[reading["place"]]
        shape = (max(self._model.batch, 1), *(self._side if side < 0 else side for side in self._image.shape[1:3]), 3)
        self._model.prepare(shape)
        classes = self._output.shape[-1] - (self._reading.settings["background"] == "first")
        self.inputs = {INPUT: TensorInfo(name=INPUT, index=self._image.index, shape=shape, dtype=np.float32)}
        self.outputs = {
            LOGITS: TensorInfo(name=LOGITS, index=self._output.index, shape=(shape[0], classes), dtype=np.float32)
        }

    def __call__(self, image: np.ndarray) -> dict[str, np.ndarray]:
        kind, scale, zero = self._image.dtype, self._image.scale, self._image.zero
        image = image if kind is np.float32 else np.rint(image).astype(np.uint8)
        output = self._model.run(preprocessing.preprocess(image, self._ranges, kind, scale, zero), self._output)
        try:
            return {LOGITS: self._reading(output, self._output.scale, self._name)}
        except UserError as error:  # e.g. numbers that are not probabilities
            raise EdgeError("INTERNAL", str(error)) from None


def _checked(reading: Any) -> dict[str, Any]:
    kinds = {"pixels": str, "outputs": str, "background": str, "place": int}
    if not isinstance(reading, dict) or not all(isinstance(reading.get(key), kind) for key, kind in kinds.items()):
        raise UserError(
            f"expected {READING!r} in the manifest to have the keys {_listed(kinds)}, got {reading!r:.80}: export again"
        )
    return reading


def _listed(kinds: Mapping[str, type]) -> str:
    return ", ".join(f"{key} ({kind.__name__})" for key, kind in kinds.items())
