"""Inputs, outputs and cost of a .tflite file, read from its flatbuffer without running it."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ai_edge_litert import schema_py_generated as schema

_MARK = b"TFL3"  # file identifier at byte 4
_KINDS = {number: name for name, number in vars(schema.TensorType).items() if not name.startswith("_")}
_NAMES = {number: name for name, number in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
_REAL = ("FLOAT32", "FLOAT16", "BFLOAT16")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TFLiteTensor:
    """An input, output or inner tensor of a .tflite file."""

    name: str  # in the signature if there is one, else in the graph
    index: int  # of the tensor in the graph
    shape: tuple[int, ...]  # -1 = any length
    kind: str  # FLOAT32, UINT8 ...
    scale: float  # value of one quantisation step; 0 = not quantised
    zero: int  # integer that represents 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class TFLiteGraph:
    """Inputs, outputs and cost of the main graph of a .tflite file."""

    inputs: tuple[TFLiteTensor, ...]
    outputs: tuple[TFLiteTensor, ...]
    macs: float  # multiply-adds of one image at the file's image size; NaN = unknown
    params: float
    kind: str = "float32"  # number format: float32, float16, dynamic (8-bit weights, float activations) or int8
    scores: tuple[TFLiteTensor, ...] = ()  # tensors whose argmax is an output


def read(path: Path) -> TFLiteGraph:
    """Read a .tflite file. Raises ValueError if it is damaged or another kind of file."""
    data = path.read_bytes()
    if data[4:8] != _MARK:
        raise ValueError("it is not a .tflite file")
    try:
        model = schema.ModelT.InitFromPackedBuf(data, 0)
        graph = model.subgraphs[0]
        names = {t.tensorIndex: _text(t.name) for s in model.signatureDefs or () for t in (*s.inputs, *s.outputs)}
        return TFLiteGraph(
            inputs=tuple(_tensor(graph, index, names) for index in graph.inputs),
            outputs=tuple(_tensor(graph, index, names) for index in graph.outputs),
            macs=_macs(model, graph),
            params=_params(model, graph),
            kind=_kind(model, graph),
            scores=tuple(_tensor(graph, index, names) for index in _argmax_inputs(model, graph)),
        )
    except Exception as error:  # a truncated flatbuffer fails at any read
        raise ValueError(f"it is damaged or truncated ({type(error).__name__})") from error


def _kind(model: Any, graph: Any) -> str:
    """Return int8 if computed tensors are quantised; else dynamic, float16 or float32, by the constants' types."""
    integers = ("INT8", "UINT8", "INT16")
    ends = {*map(int, graph.inputs), *map(int, graph.outputs)}
    kinds: dict[bool, set[str]] = {True: set(), False: set()}  # True: constants, False: computed tensors
    for index, tensor in enumerate(graph.tensors):
        scaled = tensor.quantization is not None and tensor.quantization.scale is not None
        kind = _KINDS[tensor.type]
        if kind == "FLOAT16" or (kind in integers and scaled and index not in ends):
            kinds[_is_constant(model, tensor)].add(kind)
    if kinds[False] & set(integers):
        return "int8"
    return "dynamic" if kinds[True] & set(integers) else "float16" if kinds[True] else "float32"


def _is_constant(model: Any, tensor: Any) -> bool:
    buffer = model.buffers[tensor.buffer]
    return bool((buffer.data is not None and len(buffer.data)) or buffer.size)


def _argmax_inputs(model: Any, graph: Any) -> list[int]:
    ends = {int(index) for index in graph.outputs}
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    argmax = [op for op in graph.operators if _NAMES[codes[op.opcodeIndex]] == "ARG_MAX"]
    return [int(op.inputs[0]) for op in argmax if int(op.outputs[0]) in ends]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _tensor(graph: Any, index: int, names: dict[int, str]) -> TFLiteTensor:
    tensor = graph.tensors[index]
    signature = tensor.shapeSignature
    shape = signature if signature is not None and len(signature) else tensor.shape
    quantised = tensor.quantization is not None and tensor.quantization.scale is not None
    return TFLiteTensor(
        name=names.get(int(index), _text(tensor.name)),
        index=int(index),
        shape=tuple(int(size) for size in shape) if shape is not None else (),
        kind=_KINDS[tensor.type],
        scale=float(tensor.quantization.scale[0]) if quantised else 0.0,
        zero=int(tensor.quantization.zeroPoint[0]) if quantised else 0,
    )


def _shape(graph: Any, index: int) -> list[int]:
    return [int(size) for size in graph.tensors[index].shape]


def _macs(model: Any, graph: Any) -> float:
    """Return the multiply-adds of one image; NaN if the graph has a custom operator or calls another graph."""
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    total = 0
    for operator in graph.operators:
        name = _NAMES[codes[operator.opcodeIndex]]
        if name in ("WHILE", "IF", "CUSTOM", "CALL"):
            return math.nan
        total += _multiply_adds(name, operator, graph)
    return total / max(1, _shape(graph, graph.inputs[0])[0])


def _multiply_adds(name: str, operator: Any, graph: Any) -> int:
    """Return the multiply-adds of an operator for the whole batch; 0 for operators that _COUNTED does not have.

    Kernels are [out, h, w, in], depthwise [1, h, w, out], dense [out, in].
    """
    if name not in _COUNTED:
        return 0
    inputs = [_shape(graph, index) for index in operator.inputs if index >= 0]
    output = _shape(graph, operator.outputs[0])
    return _COUNTED[name](inputs, output, operator)


def _convolution(inputs: Sequence[list[int]], output: list[int], _: Any) -> int:
    return math.prod(output[:-1]) * math.prod(inputs[1])


def _transposed(inputs: Sequence[list[int]], output: list[int], _: Any) -> int:
    """Return the multiply-adds of a transposed convolution: each position of the image meets the whole kernel.

    Args:
        inputs: shapes of the operator's inputs, which are the size of the result, the kernel, and the image.
    """
    return math.prod(inputs[2][:-1]) * math.prod(inputs[1])


def _dense(inputs: Sequence[list[int]], output: list[int], _: Any) -> int:
    return math.prod(inputs[0]) // inputs[1][-1] * math.prod(inputs[1])


def _product(inputs: Sequence[list[int]], output: list[int], operator: Any) -> int:
    options = operator.builtinOptions
    return math.prod(output) * inputs[0][-2 if options is not None and options.adjX else -1]


_COUNTED = {
    "CONV_2D": _convolution,
    "CONV_3D": _convolution,
    "DEPTHWISE_CONV_2D": _convolution,
    "TRANSPOSE_CONV": _transposed,
    "FULLY_CONNECTED": _dense,
    "BATCH_MATMUL": _product,
}


def _params(model: Any, graph: Any) -> float:
    """Return the number of parameters: entries of the constants that are floats or have a quantisation scale."""
    total, seen = 0, set()
    for tensor in graph.tensors:
        scaled = tensor.quantization is not None and tensor.quantization.scale is not None
        if _is_constant(model, tensor) and tensor.buffer not in seen and (_KINDS[tensor.type] in _REAL or scaled):
            seen.add(tensor.buffer)
            total += math.prod(int(size) for size in tensor.shape) if tensor.shape is not None else 1
    return float(total)
