"""A LiteRT file that was made elsewhere, called as exports' own are: raw pixels in, logits of the known classes out."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from dico_tf.edge.errors import EdgeError
from dico_tf.errors import UserError
from dico_tf.evaluation.members import pixels
from dico_tf.evaluation.members.reading import Reading
from dico_tf.files.manifest import READING

INPUT, LOGITS = "image", "logits"
_KINDS = (np.float32, np.uint8, np.int8)  # of what goes in


class Runner:
    """As a signature's runner: image float32 [B, H, W, 3] of 0 to 255 -> {logits: float32 [B, C]}."""

    def __init__(self, content: bytes, threads: int, described: Mapping[str, Any]):
        how = _checked(described[READING])
        self._name, self._side = described["name"], described["input_size"]
        self._ranges = pixels.checked(how["pixels"])
        self._reading = Reading(how["outputs"], how["background"])
        self._interpreter = Interpreter(model_content=content, num_threads=threads)
        inputs = self._interpreter.get_input_details()
        if len(inputs) != 1 or len(inputs[0]["shape"]) != 4 or inputs[0]["dtype"] not in _KINDS:
            raise ValueError("it takes something else than one picture in float32, uint8 or int8")
        self._image = inputs[0]
        self._batch = self._sized()
        self._output = self._interpreter.get_output_details()[how["place"]]

    def _sized(self) -> int:
        """Pictures of a call; a file that takes any number, or any size, is settled on one."""
        shape = self._image.get("shape_signature", self._image["shape"]).tolist()
        batch = max(shape[0], 1)
        if min(shape[:3]) < 0:
            self._interpreter.resize_tensor_input(self._image["index"], [batch, self._side, self._side, 3])
        self._interpreter.allocate_tensors()
        return batch

    def get_input_details(self) -> dict[str, dict[str, Any]]:
        shape = self._interpreter.get_input_details()[0]["shape"]
        return {INPUT: {"shape": shape, "dtype": np.float32}}

    def get_output_details(self) -> dict[str, dict[str, Any]]:
        outputs = int(self._output["shape"][-1]) - (self._reading.settings["background"] == "first")
        return {LOGITS: {"shape": np.array([self._batch, outputs])}}

    def __call__(self, image: np.ndarray) -> dict[str, np.ndarray]:
        kind, (scale, zero) = self._image["dtype"], self._image["quantization"]
        image = image if kind is np.float32 else np.rint(image).astype(np.uint8)
        self._interpreter.set_tensor(self._image["index"], pixels.prepared(image, self._ranges, kind, scale, zero))
        self._interpreter.invoke()
        values = self._interpreter.get_tensor(self._output["index"])
        scale, zero = self._output["quantization"] if values.dtype.kind in "iu" else (0.0, 0)
        said = values.astype(np.float32)
        said = (said - zero) * np.float32(scale) if scale else said
        try:
            return {LOGITS: self._reading(said, scale, self._name)}
        except UserError as fault:  # outputs that are not what the search heard
            raise EdgeError("INTERNAL", str(fault)) from None


def _checked(how: Any) -> dict[str, Any]:
    kinds = {"pixels": str, "outputs": str, "background": str, "place": int}
    if not isinstance(how, dict) or not all(isinstance(how.get(key), kind) for key, kind in kinds.items()):
        raise UserError(f"the manifest's {READING} is {how!r:.80}, expected {', '.join(kinds)}: export again")
    return how
