"""Tensors of the Open Inference Protocol: numpy arrays to and from raw bytes, typed contents and JSON.

Everything that a client sends is checked. A BYTES tensor is a numpy array of `bytes` objects. In JSON its elements are
base64 strings, or plain text if the tensor's parameter content_type is "str".
"""

import base64
import itertools
import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from dico_tf.edge.errors import invalid, quote
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
}  # FP16 exists only as raw bytes
_LENGTH = struct.Struct("<I")  # precedes each element of raw BYTES
_MOST_DIMENSIONS = 8
_LONGEST_NAME = 256


def datatype(array: np.ndarray) -> str:
    """Return the protocol's name of an array's dtype, e.g. FP32. Raises TypeError if it has none."""
    name = _NAMES.get((array.dtype.kind, array.dtype.itemsize))
    if name is None:
        raise TypeError(f"the protocol has no datatype for {array.dtype}; known: {', '.join(DTYPES)}")
    return name


def strings(values: Sequence[str | bytes]) -> np.ndarray:
    """Return a BYTES tensor [N] of these strings; text is encoded as UTF-8."""
    array = np.empty(len(values), object)
    array[:] = [value.encode() if isinstance(value, str) else value for value in values]
    return array


def checked_description(name: Any, kind: Any, shape: Any) -> tuple[str, np.dtype, tuple[int, ...]]:
    """Check the description of a client's tensor; return (name, dtype, shape). Raises EdgeError.

    The shape may be huge: compare it with the data before you allocate memory.
    """
    if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME:
        raise invalid(f"the name of a tensor must have 1 to {_LONGEST_NAME} characters, got {quote(name)}")
    if not isinstance(kind, str) or kind not in DTYPES:
        raise invalid(f"{quote(name)} has the unknown datatype {quote(kind)}; known: {', '.join(DTYPES)}")
    sizes = list(shape) if isinstance(shape, Sequence) and not isinstance(shape, str | bytes) else [None]
    if not 0 < len(sizes) <= _MOST_DIMENSIONS or any(type(size) is not int or not 0 < size < 2**31 for size in sizes):
        raise invalid(
            f"the shape of {quote(name)} must be 1 to {_MOST_DIMENSIONS} positive 32-bit integers, got {quote(shape)}"
        )
    return name, DTYPES[kind], tuple(sizes)


def from_message(tensor: inference_pb2.Tensor, raw: bytes | None) -> tuple[str, np.ndarray]:
    """Return (name, array) of a tensor message. Raises EdgeError.

    `raw`: its elements as raw bytes; None if the message itself contains them.
    """
    name, dtype, shape = checked_description(tensor.name, tensor.datatype, list(tensor.shape))
    if raw is None:
        return name, _from_contents(name, tensor, dtype, shape)
    if tensor.HasField("contents"):
        raise invalid(f"{quote(name)} has both typed and raw contents: send one of them")
    return name, from_raw(name, dtype, shape, raw)


def from_raw(name: str, dtype: np.dtype, shape: tuple[int, ...], raw: bytes) -> np.ndarray:
    """Return the array of a tensor that was sent as raw bytes. `name` is for messages. Raises EdgeError."""
    if dtype.kind == "O":
        return _array(name, _split(name, raw), shape, dtype)
    expected = math.prod(shape) * dtype.itemsize
    if len(raw) != expected:
        raise invalid(f"{quote(name)} of shape {list(shape)} must have {expected} bytes, got {len(raw)}")
    if dtype.kind == "b" and raw.strip(b"\x00\x01"):
        raise invalid(f"{quote(name)} is BOOL and contains a byte other than 0 and 1")
    return np.frombuffer(raw, dtype).reshape(shape)


def _split(name: str, raw: bytes) -> list[bytes]:
    """Split raw BYTES, in which each element is preceded by its length, into the elements.

    Raises EdgeError if the last one is cut short. `name` is the tensor's, for messages.
    """
    elements, end = [], 0
    while end < len(raw):
        start = end + _LENGTH.size
        end = start + _LENGTH.unpack_from(raw, end)[0] if start <= len(raw) else len(raw) + 1
        if end > len(raw):
            raise invalid(f"the raw BYTES of {quote(name)} are cut short: they end within an element")
        elements.append(raw[start:end])
    return elements


def _from_contents(name: str, tensor: inference_pb2.Tensor, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    filled = [field.name for field, _ in tensor.contents.ListFields()]
    expected = _CONTENTS.get(tensor.datatype, "raw_input_contents")
    if filled != [expected]:
        received = ", ".join(filled) or "no contents"
        raise invalid(f"{quote(name)} of datatype {tensor.datatype} must have {expected}, got {received}")
    return _array(name, list(getattr(tensor.contents, expected)), shape, dtype)


def from_json(tensor: Any) -> tuple[str, np.ndarray]:
    """Return (name, array) of {"name", "datatype", "shape", "data", "parameters"}. Raises EdgeError.

    The data is flat, or nested like the shape.
    """
    if not isinstance(tensor, dict):
        raise invalid(f"an input must be an object with name, datatype, shape and data, got {quote(tensor)}")
    name, dtype, shape = checked_description(tensor.get("name"), tensor.get("datatype"), tensor.get("shape"))
    data = tensor.get("data")
    if not isinstance(data, list):
        raise invalid(f"the data of {quote(name)} must be a list, flat or nested like its shape, got {quote(data)}")
    values = _flatten(name, data, shape) if data and isinstance(data[0], list) else data
    if dtype.kind == "O":
        parameters = tensor.get("parameters")
        values = _decode(name, values, parameters.get("content_type") if isinstance(parameters, dict) else None)
    return name, _array(name, values, shape, dtype)


def _flatten(name: str, data: list[Any], shape: tuple[int, ...]) -> list[Any]:
    level: list[Any] = [data]
    for size in shape:
        if any(not isinstance(part, list) or len(part) != size for part in level):
            raise invalid(f"the data of {quote(name)} is not nested like its shape {list(shape)}")
        level = list(itertools.chain.from_iterable(level))
    return level


def _decode(name: str, values: list[Any], content_type: Any) -> list[bytes]:
    if content_type not in (None, "base64", "str"):
        raise invalid(f"the content_type of {quote(name)} must be base64 or str, got {quote(content_type)}")
    if any(type(value) is not str for value in values):
        raise invalid(f"{quote(name)} of datatype BYTES contains an element that is not a string: send base64 strings")
    try:
        if content_type == "str":
            return [value.encode() for value in values]
        return [base64.b64decode(value, validate=True) for value in values]
    except ValueError:  # also UnicodeEncodeError
        raise invalid(f"{quote(name)} of datatype BYTES contains text that is not {content_type or 'base64'}") from None


_TYPES = {"b": {bool}, "i": {int}, "u": {int}, "f": {int, float}, "O": {bytes}}


def _array(name: str, values: Sequence[Any], shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Return an array of a flat list of numbers, booleans or bytes.

    Raises EdgeError if their count, types or range do not fit.
    """
    if len(values) != math.prod(shape):
        raise invalid(f"{quote(name)} of shape {list(shape)} must have {math.prod(shape)} elements, got {len(values)}")
    if not set(map(type, values)) <= _TYPES[dtype.kind]:
        raise invalid(f"{quote(name)} contains elements that are not {_NAMES[dtype.kind, dtype.itemsize]}")
    if dtype.kind == "O":
        return strings(values).reshape(shape)
    try:
        with np.errstate(over="ignore"):
            array = np.array(values, np.float64).astype(dtype) if dtype.kind == "f" else np.array(values, dtype)
    except OverflowError:
        array = None
    if array is None or (dtype.kind == "f" and not np.isfinite(array).all()):
        raise invalid(f"{quote(name)} contains a number outside the range of {_NAMES[dtype.kind, dtype.itemsize]}")
    return array.reshape(shape)


def to_raw(array: np.ndarray) -> bytes:
    """Return the elements as the protocol's raw bytes: little-endian numbers, or BYTES, each preceded by its length."""
    if array.dtype.kind == "O":
        return b"".join(_LENGTH.pack(len(value)) + value for value in array.flat)
    return array.astype(DTYPES[datatype(array)], copy=False).tobytes()


def to_message(name: str, array: np.ndarray) -> inference_pb2.Tensor:
    """Return a tensor message without its elements; send those as raw bytes (`to_raw`)."""
    return inference_pb2.Tensor(name=name, datatype=datatype(array), shape=array.shape)


def to_json(name: str, array: np.ndarray) -> dict[str, Any]:
    """Return a JSON tensor with flat data.

    BYTES become text if all are UTF-8, else base64; the parameter content_type is "str" or "base64".
    """
    tensor = {"name": name, "datatype": datatype(array), "shape": list(array.shape)}
    if array.dtype.kind != "O":
        return {**tensor, "data": array.ravel().tolist()}
    try:
        content_type, data = "str", [value.decode() for value in array.flat]
    except UnicodeDecodeError:
        content_type, data = "base64", [base64.b64encode(value).decode() for value in array.flat]
    return {**tensor, "parameters": {"content_type": content_type}, "data": data}
