"""One LiteRT file, ready to run: batches of any size that the file allows, quantised outputs as float32."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

SIGNATURE = "serving_default"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tensor:
    name: str
    index: int
    shape: tuple[int, ...]  # -1 where any size will do
    dtype: type
    scale: float = 0.0  # real value = scale * (stored value - zero); 0 = not quantised
    zero: int = 0

    @classmethod
    def of(cls, details: Mapping[str, Any]) -> "Tensor":
        """Read the interpreter's own description."""
        shape = details.get("shape_signature", ())
        shape = shape if len(shape) else details["shape"]
        scale, zero = details["quantization"] if np.dtype(details["dtype"]).kind in "iu" else (0.0, 0)
        return cls(
            name=details["name"],
            index=int(details["index"]),
            shape=tuple(int(side) for side in shape),
            dtype=details["dtype"],
            scale=float(scale),
            zero=int(zero),
        )

    def real(self, values: np.ndarray) -> np.ndarray:
        """Return stored values as the float32 numbers that they stand for."""
        values = values.astype(np.float32)
        return (values - self.zero) * np.float32(self.scale) if self.scale else values


class LiteRT:
    """A file and its interpreter. It is not concurrent: one thread at a time may call it.

    Raises ValueError or RuntimeError if the bytes are not a .tflite file or hold an unknown operation.
    """

    def __init__(self, source: Path | bytes, threads: int, *, keep_tensors: bool = False) -> None:
        """Load a file or its bytes; `keep_tensors` lets `run` return tensors between the operations, too."""
        place = {"model_content": source} if isinstance(source, bytes) else {"model_path": str(source)}
        kept = {"experimental_preserve_all_tensors": True} if keep_tensors else {}
        self._interpreter = Interpreter(**place, num_threads=threads, **kept)
        self.inputs = [Tensor.of(details) for details in self._interpreter.get_input_details()]
        self.outputs = [Tensor.of(details) for details in self._interpreter.get_output_details()]
        self._shape: tuple[int, ...] = ()

    @property
    def batch(self) -> int:
        """Images of a call; 0 if the file takes any number."""
        return max(self.inputs[0].shape[0], 0)

    def tensor(self, index: int) -> Tensor:
        """Return any tensor of the graph, by its index in the file."""
        known = {one["index"]: one for one in self._interpreter.get_tensor_details()}
        return Tensor.of(known[index])

    def prepare(self, shape: tuple[int, ...]) -> None:
        """Give the first input this shape, if it does not have it yet, and allocate the memory for it."""
        if shape != self._shape:
            if -1 in self.inputs[0].shape:
                self._interpreter.resize_tensor_input(self.inputs[0].index, list(shape))
            self._interpreter.allocate_tensors()
            self._shape = shape

    def run(self, image: np.ndarray, output: Tensor) -> np.ndarray:
        """Return one output as float32 for a batch of the first input."""
        self.prepare(image.shape)
        self._interpreter.set_tensor(self.inputs[0].index, image)
        self._interpreter.invoke()
        return output.real(self._interpreter.get_tensor(output.index))

    def signature(self, name: str = SIGNATURE) -> "Signature":
        """Return the named outputs of a file that this project exported."""
        return Signature(self._interpreter.get_signature_runner(name))


class Signature:
    """Outputs by name: a call with the named inputs returns {name: array}."""

    def __init__(self, runner: Any) -> None:
        self._runner = runner
        self.inputs = {name: _allocated(details) for name, details in runner.get_input_details().items()}
        self.outputs = {name: _allocated(details) for name, details in runner.get_output_details().items()}

    def __call__(self, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        return self._runner(**inputs)


def _allocated(details: Mapping[str, Any]) -> Tensor:
    """Describe a tensor with its present shape, in which a free batch size is 1."""
    return dataclasses.replace(Tensor.of(details), shape=tuple(int(side) for side in details["shape"]))
