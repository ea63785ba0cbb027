"""One tensor of the Open Inference Protocol: numpy <-> raw bytes, typed contents, JSON. What comes in is checked.

BYTES are numpy objects of `bytes`; in JSON base64 strings, or text where the tensor's parameter content_type is "str".
"""

import base64
import itertools
import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from dico_tf.edge.errors import invalid, shown
from dico_tf.wire import inference_pb2

BYTES = "BYTES"
DTYPES = {
    "BOOL": np.dtype(bool),
    **{f"INT{bits}": np.dtype(f"<i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": np.dtype(f"<u{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": np.dtype(f"<f{bits // 8}") for bits in (16, 32, 64)},
    BYTES: np.dtype(object),
}
_NAMES = {(dtype.kind, dtype.itemsize): name for name, dtype in DTYPES.items()}
_CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    BYTES: "bytes_contents",
}  # FP16 travels raw only
_LENGTH = struct.Struct("<I")  # stands before each element of raw BYTES
_DIMENSIONS = 8
_LONGEST_NAME = 256


def datatype(array: np.ndarray) -> str:
    """The protocol's name for what an array of ours holds."""
    name = _NAMES.get((array.dtype.kind, array.dtype.itemsize))
    if name is None:
        raise TypeError(f"no tensor holds {array.dtype}; known: {', '.join(DTYPES)}")
    return name


def strings(values: Sequence[str | bytes]) -> np.ndarray:
    """BYTES [N]."""
    array = np.empty(len(values), object)
    array[:] = [value.encode() if isinstance(value, str) else value for value in values]
    return array


def described(name: Any, kind: Any, shape: Any) -> tuple[str, np.dtype, tuple[int, ...]]:
    """(name, dtype, shape) of a stranger's tensor; its shape promises nothing about memory yet."""
    if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME:
        raise invalid(f"an input is named {shown(name)}: a name has 1 to {_LONGEST_NAME} characters")
    if not isinstance(kind, str) or kind not in DTYPES:
        raise invalid(f"{shown(name)} has datatype {shown(kind)}; known: {', '.join(DTYPES)}")
    sizes = list(shape) if isinstance(shape, Sequence) and not isinstance(shape, str | bytes) else [None]
    if not 0 < len(sizes) <= _DIMENSIONS or any(type(size) is not int or not 0 < size < 2**31 for size in sizes):
        raise invalid(f"{shown(name)} has shape {shown(sizes)}: give 1 to {_DIMENSIONS} whole numbers from 1")
    return name, DTYPES[kind], tuple(sizes)


def from_message(tensor: inference_pb2.Tensor, raw: bytes | None) -> tuple[str, np.ndarray]:
    """(name, array) of a message, whose content may stand beside it as raw bytes."""
    name, dtype, shape = described(tensor.name, tensor.datatype, list(tensor.shape))
    if raw is None:
        return name, _from_contents(name, tensor, dtype, shape)
    if tensor.HasField("contents"):
        raise invalid(f"{shown(name)} has contents both in the tensor and raw: give one")
    return name, from_raw(name, dtype, shape, raw)


def from_raw(name: str, dtype: np.dtype, shape: tuple[int, ...], raw: bytes) -> np.ndarray:
    if dtype.kind == "O":
        return _counted(name, _split(name, raw), shape, dtype)
    expected = math.prod(shape) * dtype.itemsize
    if len(raw) != expected:
        raise invalid(f"{shown(name)} of shape {list(shape)} needs {expected} bytes and has {len(raw)}")
    if dtype.kind == "b" and raw.strip(b"\x00\x01"):
        raise invalid(f"{shown(name)} holds a byte that is neither 0 nor 1, as BOOL is")
    return np.frombuffer(raw, dtype).reshape(shape)


def _split(name: str, raw: bytes) -> list[bytes]:
    """Raw BYTES: a length before each element."""
    elements, place = [], 0
    while place < len(raw):
        start = place + _LENGTH.size
        place = start + _LENGTH.unpack_from(raw, place)[0] if start <= len(raw) else len(raw) + 1
        if place > len(raw):
            raise invalid(f"{shown(name)} ends within an element: its raw BYTES are cut short")
        elements.append(raw[start:place])
    return elements


def _from_contents(name: str, tensor: inference_pb2.Tensor, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    filled = [field.name for field, _ in tensor.contents.ListFields()]
    expected = _CONTENTS.get(tensor.datatype, "raw_input_contents")
    if filled != [expected]:
        found = ", ".join(filled) or "no contents"
        raise invalid(f"{shown(name)} of datatype {tensor.datatype} has {found}: give {expected}")
    return _counted(name, list(getattr(tensor.contents, expected)), shape, dtype)


def from_json(tensor: Any) -> tuple[str, np.ndarray]:
    """(name, array) of {"name", "datatype", "shape", "data", "parameters"}; data is nested as the shape is, or flat."""
    if not isinstance(tensor, dict):
        raise invalid(f"an input is {shown(tensor)}: give an object with name, datatype, shape and data")
    name, dtype, shape = described(tensor.get("name"), tensor.get("datatype"), tensor.get("shape"))
    data = tensor.get("data")
    if not isinstance(data, list):
        raise invalid(f"{shown(name)} has data {shown(data)}: give a list, nested as the shape is, or flat")
    values = _flat(name, data, shape) if data and isinstance(data[0], list) else data
    if dtype.kind == "O":
        parameters = tensor.get("parameters")
        values = _decoded(name, values, parameters.get("content_type") if isinstance(parameters, dict) else None)
    return name, _counted(name, values, shape, dtype)


def _flat(name: str, data: list[Any], shape: tuple[int, ...]) -> list[Any]:
    level: list[Any] = [data]
    for size in shape:
        if any(not isinstance(part, list) or len(part) != size for part in level):
            raise invalid(f"{shown(name)} has data that is not nested as its shape {list(shape)} is")
        level = list(itertools.chain.from_iterable(level))
    return level


def _decoded(name: str, values: list[Any], content_type: Any) -> list[bytes]:
    if content_type not in (None, "base64", "str"):
        raise invalid(f"{shown(name)} has content_type {shown(content_type)}: give base64 or str")
    if any(type(value) is not str for value in values):
        raise invalid(f"{shown(name)} of datatype BYTES holds what is no string: give base64 strings")
    try:
        if content_type == "str":
            return [value.encode() for value in values]
        return [base64.b64decode(value, validate=True) for value in values]
    except ValueError:  # also of characters that no encoding has
        raise invalid(f"{shown(name)} of datatype BYTES is not {content_type or 'base64'}") from None


_TYPES = {"b": {bool}, "i": {int}, "u": {int}, "f": {int, float}, "O": {bytes}}


def _counted(name: str, values: Sequence[Any], shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Numbers, truths or bytes as an array, if they are as many as the shape says and the datatype holds them."""
    if len(values) != math.prod(shape):
        raise invalid(f"{shown(name)} of shape {list(shape)} needs {math.prod(shape)} elements and has {len(values)}")
    if not set(map(type, values)) <= _TYPES[dtype.kind]:
        raise invalid(f"{shown(name)} holds elements that are no {_NAMES[dtype.kind, dtype.itemsize]}")
    if dtype.kind == "O":
        return strings(values).reshape(shape)
    try:
        with np.errstate(over="ignore"):
            array = np.array(values, np.float64).astype(dtype) if dtype.kind == "f" else np.array(values, dtype)
    except OverflowError:
        array = None
    if array is None or (dtype.kind == "f" and not np.isfinite(array).all()):
        raise invalid(f"{shown(name)} holds a number beyond {_NAMES[dtype.kind, dtype.itemsize]}")
    return array.reshape(shape)


def to_raw(array: np.ndarray) -> bytes:
    if array.dtype.kind == "O":
        return b"".join(_LENGTH.pack(len(value)) + value for value in array.flat)
    return array.astype(DTYPES[datatype(array)], copy=False).tobytes()


def to_message(name: str, array: np.ndarray) -> inference_pb2.Tensor:
    """Without contents, which travel raw."""
    return inference_pb2.Tensor(name=name, datatype=datatype(array), shape=array.shape)


def to_json(name: str, array: np.ndarray) -> dict[str, Any]:
    """Data is flat; BYTES that are text stay text, and content_type says which they are."""
    tensor = {"name": name, "datatype": datatype(array), "shape": list(array.shape)}
    if array.dtype.kind != "O":
        return {**tensor, "data": array.ravel().tolist()}
    try:
        content_type, data = "str", [value.decode() for value in array.flat]
    except UnicodeDecodeError:
        content_type, data = "base64", [base64.b64encode(value).decode() for value in array.flat]
    return {**tensor, "parameters": {"content_type": content_type}, "data": data}
