"""Reader of tf.train.Example messages that leaves their images undecoded. Needs no TensorFlow.

The numbers of the fields in these messages: an Example has its Features in field 1. Features have entries in field 1,
each with a key (1) and a Feature (2). A Feature has one list: of bytes (1), floats (2) or integers (3). A list has its
values in field 1.
"""

from collections.abc import Iterator
from typing import Protocol

_VARINT, _BYTES, _FIXED = 0, 2, {1: 8, 5: 4}  # wire types; the fixed ones with their lengths


class Bytes(Protocol):
    """Anything that is sliced and indexed like bytes: bytes, memoryview or mmap."""

    def __getitem__(self, place): ...


class Span:
    """The encoded value of a feature, data[start:end]: its first string, or its integers or floats."""

    __slots__ = ("data", "end", "start")

    def __init__(self, data: Bytes, start: int, end: int) -> None:
        self.data, self.start, self.end = data, start, end

    def bytes(self) -> bytes:
        return bytes(self.data[self.start : self.end])

    def integer(self) -> int:
        """Return the first integer of the feature, from -2**63 to 2**63 - 1."""
        value, _ = _varint(self.data, self.start, self.end)
        return value - 2**64 if value >= 2**63 else value


def features(data: Bytes, start: int, end: int) -> dict[str, Span]:
    """Return {name: encoded value} of the features of the example data[start:end]; those without a value are left out.

    Raises:
        ValueError: if the bytes are not an example.
    """
    result = {}
    for _, inner, stop in _fields(data, start, end):
        for _, at, to in _fields(data, inner, stop):
            entry = {number: (low, high) for number, low, high in _fields(data, at, to)}
            if 1 not in entry or 2 not in entry:
                raise ValueError("the example has a feature without a name or a value")
            value = next((v for kind in _fields(data, *entry[2]) for v in _fields(data, *kind[1:])), None)
            if value:
                low, high = entry[1]
                result[bytes(data[low:high]).decode()] = Span(data, *value[1:])
    return result


def _fields(data: Bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield (number, start, end) of the fields of the message data[at:end]."""
    while at < end:
        tag, at = _varint(data, at, end)
        kind, start = tag & 7, at
        if kind == _BYTES:
            length, start = _varint(data, at, end)
            at = start + length
        elif kind == _VARINT:
            _, at = _varint(data, at, end)
        elif kind in _FIXED:
            at += _FIXED[kind]
        else:
            raise ValueError(f"the example has a field of unknown wire type {kind}")
        if at > end:
            raise ValueError("the example has a field that is longer than its message")
        yield tag >> 3, start, at


def _varint(data: Bytes, at: int, end: int) -> tuple[int, int]:
    """Return the integer of variable length that begins at data[at], and the position after it.

    It has seven bits per byte, the lowest first. Raises ValueError if it does not finish before `end`.
    """
    value = shift = 0
    while at < end:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
    raise ValueError("the example ends within a number")
