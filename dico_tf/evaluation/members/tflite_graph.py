"""What a .tflite file holds, read from its own tables: what goes in and comes out, and what it costs."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ai_edge_litert import schema_py_generated as schema

_MARK = b"TFL3"  # of a flatbuffer of this kind, at byte 4
_KINDS = {number: name for name, number in vars(schema.TensorType).items() if not name.startswith("_")}
_NAMES = {number: name for name, number in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
_REAL = ("FLOAT32", "FLOAT16", "BFLOAT16")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TFLiteTensor:
    name: str  # the signature's, where there is one
    index: int
    shape: tuple[int, ...]  # -1 where any size will do
    kind: str  # FLOAT32, UINT8 ...
    scale: float
    zero: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class TFLiteGraph:
    inputs: tuple[TFLiteTensor, ...]
    outputs: tuple[TFLiteTensor, ...]
    macs: float  # of one image at the size in the file; NaN where that is not known
    params: float
    kind: str = "float32"  # what it computes in: float32, float16, dynamic (weights of 8 bits) or int8
    scores: tuple[TFLiteTensor, ...] = ()  # what the largest is taken of, where an output is only which one that is


def read(path: Path) -> TFLiteGraph:
    """ValueError where it is no such file."""
    data = path.read_bytes()
    if data[4:8] != _MARK:
        raise ValueError("it does not begin as a .tflite file does")
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
            scores=tuple(_tensor(graph, index, names) for index in _chosen_from(model, graph)),
        )
    except Exception as error:  # a flatbuffer that was cut short fails wherever it is looked at
        raise ValueError(f"it is damaged or cut short ({type(error).__name__})") from error


def _kind(model: Any, graph: Any) -> str:
    """By what is computed, then by what is stored."""
    whole = ("INT8", "UINT8", "INT16")
    ends = {*map(int, graph.inputs), *map(int, graph.outputs)}
    kinds: dict[bool, set[str]] = {True: set(), False: set()}  # of constants, and of what is computed
    for index, tensor in enumerate(graph.tensors):
        scaled = tensor.quantization is not None and tensor.quantization.scale is not None
        kind = _KINDS[tensor.type]
        if kind == "FLOAT16" or (kind in whole and scaled and index not in ends):
            kinds[_held(model, tensor)].add(kind)
    if kinds[False] & set(whole):
        return "int8"
    return "dynamic" if kinds[True] & set(whole) else "float16" if kinds[True] else "float32"


def _held(model: Any, tensor: Any) -> bool:
    buffer = model.buffers[tensor.buffer]
    return bool((buffer.data is not None and len(buffer.data)) or buffer.size)


def _chosen_from(model: Any, graph: Any) -> list[int]:
    ends = {int(index) for index in graph.outputs}
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    largest = [op for op in graph.operators if _NAMES[codes[op.opcodeIndex]] == "ARG_MAX"]
    return [int(op.inputs[0]) for op in largest if int(op.outputs[0]) in ends]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _tensor(graph: Any, index: int, names: dict[int, str]) -> TFLiteTensor:
    found = graph.tensors[index]
    signature = found.shapeSignature
    shape = signature if signature is not None and len(signature) else found.shape
    quantised = found.quantization is not None and found.quantization.scale is not None
    return TFLiteTensor(
        name=names.get(int(index), _text(found.name)),
        index=int(index),
        shape=tuple(int(size) for size in shape) if shape is not None else (),
        kind=_KINDS[found.type],
        scale=float(found.quantization.scale[0]) if quantised else 0.0,
        zero=int(found.quantization.zeroPoint[0]) if quantised else 0,
    )


def _shape(graph: Any, index: int) -> list[int]:
    return [int(size) for size in graph.tensors[index].shape]


def _macs(model: Any, graph: Any) -> float:
    """Of the operators of the main graph; NaN where another graph is called that may hold some."""
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    total = 0
    for operator in graph.operators:
        name = _NAMES[codes[operator.opcodeIndex]]
        if name in ("WHILE", "IF", "CUSTOM", "CALL"):
            return math.nan
        total += _multiply_adds(name, operator, graph)
    return total / max(1, _shape(graph, graph.inputs[0])[0])


def _multiply_adds(name: str, operator: Any, graph: Any) -> int:
    """Kernels are [out, h, w, in], depthwise [1, h, w, out], dense [out, in]; images of a batch are counted, too."""
    if name not in _COUNTED:
        return 0
    given = [_shape(graph, index) for index in operator.inputs if index >= 0]
    output = _shape(graph, operator.outputs[0])
    return _COUNTED[name](given, output, operator)


def _convolution(given: Sequence[list[int]], output: list[int], _: Any) -> int:
    return math.prod(output[:-1]) * math.prod(given[1])


def _transposed(given: Sequence[list[int]], output: list[int], _: Any) -> int:
    """Inputs are the result's shape, the kernel, and what is convolved: each position meets the whole kernel."""
    return math.prod(given[2][:-1]) * math.prod(given[1])


def _dense(given: Sequence[list[int]], output: list[int], _: Any) -> int:
    return math.prod(given[0]) // given[1][-1] * math.prod(given[1])


def _product(given: Sequence[list[int]], output: list[int], operator: Any) -> int:
    options = operator.builtinOptions
    return math.prod(output) * given[0][-2 if options is not None and options.adjX else -1]


_COUNTED = {
    "CONV_2D": _convolution,
    "CONV_3D": _convolution,
    "DEPTHWISE_CONV_2D": _convolution,
    "TRANSPOSE_CONV": _transposed,
    "FULLY_CONNECTED": _dense,
    "BATCH_MATMUL": _product,
}


def _params(model: Any, graph: Any) -> float:
    """Entries of all constants that are numbers to compute with: real ones, and whole ones that have a scale."""
    total, seen = 0, set()
    for tensor in graph.tensors:
        scaled = tensor.quantization is not None and tensor.quantization.scale is not None
        if _held(model, tensor) and tensor.buffer not in seen and (_KINDS[tensor.type] in _REAL or scaled):
            seen.add(tensor.buffer)
            total += math.prod(int(size) for size in tensor.shape) if tensor.shape is not None else 1
    return float(total)
