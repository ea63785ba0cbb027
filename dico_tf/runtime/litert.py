"""Run a LiteRT (.tflite) file: batches of any size that the file allows, quantised outputs as float32."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

SIGNATURE = "serving_default"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TensorInfo:
    """Name, shape, type and quantisation of a tensor in a LiteRT file."""

    name: str
    index: int
    shape: tuple[int, ...]  # -1: any size
    dtype: type
    scale: float = 0.0  # real value = scale * (stored value - zero); 0 = not quantised
    zero: int = 0

    @classmethod
    def of(cls, details: Mapping[str, Any]) -> "TensorInfo":
        """Return the facts about a tensor, given its entry in the interpreter's get_tensor_details()."""
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
        """Convert values of this tensor to float32: scale * (value - zero) if it is quantised."""
        values = values.astype(np.float32)
        return (values - self.zero) * np.float32(self.scale) if self.scale else values


class LiteRT:
    """A LiteRT file in an interpreter that runs it. Only one thread at a time may call it.

    Making it raises ValueError or RuntimeError if it is not a .tflite file or contains an unknown operation.
    """

    def __init__(self, source: Path | bytes, threads: int, *, keep_tensors: bool = False) -> None:
        """Load a .tflite file.

        Args:
            source: path of the file, or its content.
            threads: number of CPU threads that run the network.
            keep_tensors: keep the values of all tensors, so that `run` can return intermediate ones, too.
        """
        model = {"model_content": source} if isinstance(source, bytes) else {"model_path": str(source)}
        options = {"experimental_preserve_all_tensors": True} if keep_tensors else {}
        self._interpreter = Interpreter(**model, num_threads=threads, **options)
        self.inputs = [TensorInfo.of(details) for details in self._interpreter.get_input_details()]
        self.outputs = [TensorInfo.of(details) for details in self._interpreter.get_output_details()]
        self._shape: tuple[int, ...] = ()

    @property
    def batch(self) -> int:
        """Number of images that a call must have; 0 if the file takes any number."""
        return max(self.inputs[0].shape[0], 0)

    def tensor(self, index: int) -> TensorInfo:
        """Return the facts about any tensor of the graph, given its index in the file."""
        details = {one["index"]: one for one in self._interpreter.get_tensor_details()}
        return TensorInfo.of(details[index])

    def prepare(self, shape: tuple[int, ...]) -> None:
        """Allocate memory for calls whose first input has this shape, unless the last allocation was for it already.

        The input is resized if the file leaves a side open; a file with fixed sides refuses other shapes in `run`.
        """
        if shape != self._shape:
            if -1 in self.inputs[0].shape:
                self._interpreter.resize_tensor_input(self.inputs[0].index, list(shape))
            self._interpreter.allocate_tensors()
            self._shape = shape

    def run(self, image: np.ndarray, output: TensorInfo) -> np.ndarray:
        """Run the network on a batch of images, in the type of its first input; return one output as float32.

        Args:
            output: one of `outputs`, or with `keep_tensors` any other tensor, as `tensor` returns it.

        Raises ValueError or RuntimeError if the network does not take this shape or type.
        """
        self.prepare(image.shape)
        self._interpreter.set_tensor(self.inputs[0].index, image)
        self._interpreter.invoke()
        return output.real(self._interpreter.get_tensor(output.index))

    def signature(self, name: str = SIGNATURE) -> "Signature":
        """Return a signature of the file: a callable with named inputs and outputs. Exports have "serving_default"."""
        return Signature(self._interpreter.get_signature_runner(name))


class Signature:
    """Callable that takes the inputs as keyword arguments and returns {output name: array}.

    Quantised outputs are not converted.
    """

    def __init__(self, runner: Any) -> None:
        self._runner = runner
        self.inputs = {name: _allocated(details) for name, details in runner.get_input_details().items()}
        self.outputs = {name: _allocated(details) for name, details in runner.get_output_details().items()}

    def __call__(self, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        return self._runner(**inputs)


def _allocated(details: Mapping[str, Any]) -> TensorInfo:
    """Return the facts about a tensor with the shape that it has now, in which an open side is 1."""
    return dataclasses.replace(TensorInfo.of(details), shape=tuple(int(side) for side in details["shape"]))
