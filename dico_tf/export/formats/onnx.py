"""ONNX files for ONNX Runtime and other runtimes, converted from SavedModels by tf2onnx."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dico_tf.export.formats.format import Advance, ConvertedFormat, TimedLogits

if TYPE_CHECKING:
    from dico_tf.export.convert import Frozen

_OPSET = 18
_WARM = 3  # calls before the first that is timed


class ONNX(ConvertedFormat):
    """ONNX file with any batch size and the outputs of the SavedModel: image -> logits, probabilities, class_id, ..."""

    name = "onnx"
    title = "ONNX"
    kinds = ("onnx",)
    suffix = ".onnx"
    packages = ("tf2onnx", "onnx", "onnxruntime")
    extra = "onnx"
    exact = ("onnx",)

    def convert(self, network: "Frozen", kind: str, images: np.ndarray | None) -> bytes:
        import tf2onnx

        function = network.function
        model, _ = tf2onnx.convert.from_function(
            function, function.input_signature, opset=_OPSET, custom_op_handlers={"Erfc": (_erfc, [])}
        )
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_param = "batch"
        return model.SerializeToString()

    def open(self, path: Path) -> Callable[[np.ndarray, Advance], TimedLogits]:
        call = _session(path)

        def answer(images: np.ndarray, advance: Advance) -> TimedLogits:
            logits, seconds = [], []
            for image in images.astype(np.float32)[:, None]:
                for _ in range(1 if logits else _WARM):
                    begun = time.perf_counter()
                    output = call.run(["logits"], {"image": image})[0]
                    seconds.append(time.perf_counter() - begun)
                logits.append(output)
                advance(1)
            return TimedLogits(np.concatenate(logits), 1000 * float(np.median(seconds[_WARM - 1 :])))

        return answer

    def describe(self, path: Path) -> dict[str, Any]:
        call = _session(path)
        names = {"inputs": call.get_inputs(), "outputs": call.get_outputs()}
        return {"opset": _OPSET, **{side: sorted(v.name for v in values) for side, values in names.items()}}


def _session(path: Path):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _erfc(context, node, name: str, arguments: list) -> None:
    """Convert erfc(x), which exact GELU uses and ONNX lacks, to 1 - erf(x)."""
    shapes, kinds, outputs = node.output_shapes, node.output_dtypes, node.output
    context.remove_node(node.name)
    one = context.make_const(f"{node.name}_one", np.array(1, np.float32)).output[0]
    erf = context.make_node("Erf", [node.input[0]], name=f"{node.name}_erf").output[0]
    context.make_node("Sub", [one, erf], name=node.name, outputs=outputs, shapes=shapes, dtypes=kinds)


FORMAT = ONNX()
