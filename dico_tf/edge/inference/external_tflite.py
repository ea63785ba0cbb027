"""A LiteRT file that was made elsewhere, called as exports' own are: raw pixels in, logits of the known classes out."""

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
_KINDS = (np.float32, np.uint8, np.int8)  # of what goes in


class ExternalRunner:
    """As a signature's runner: image float32 [B, H, W, 3] of 0 to 255 -> {logits: float32 [B, C]}."""

    def __init__(self, content: bytes, threads: int, described: Mapping[str, Any]):
        how = _checked(described[READING])
        self._name, self._side = described["name"], described["input_size"]
        self._ranges = preprocessing.check_pixels(how["pixels"])
        self._reading = OutputDecoder(how["outputs"], how["background"])
        self._model = LiteRT(content, threads)
        inputs = self._model.inputs
        if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].dtype not in _KINDS:
            raise ValueError("it takes something else than one picture in float32, uint8 or int8")
        self._image, self._output = inputs[0], self._model.outputs[how["place"]]
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
        said = self._model.run(preprocessing.preprocess(image, self._ranges, kind, scale, zero), self._output)
        try:
            return {LOGITS: self._reading(said, self._output.scale, self._name)}
        except UserError as fault:  # outputs that are not what the search heard
            raise EdgeError("INTERNAL", str(fault)) from None


def _checked(how: Any) -> dict[str, Any]:
    kinds = {"pixels": str, "outputs": str, "background": str, "place": int}
    if not isinstance(how, dict) or not all(isinstance(how.get(key), kind) for key, kind in kinds.items()):
        raise UserError(f"the manifest's {READING} is {how!r:.80}, expected {', '.join(kinds)}: export again")
    return how
