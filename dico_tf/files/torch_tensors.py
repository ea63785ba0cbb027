"""Tensors of PyTorch files: views of storages, as a pickle describes them. Only `array` reads their numbers."""

import dataclasses
import functools
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from dico_tf.errors import UserError
from dico_tf.files.inert_pickle import (
    COLLECTIONS,
    Function,
    damaged,
    excessive,
    only_argument,
    python_object,
    shortened,
    unsupported,
)

_MOST_DIMENSIONS = 64  # of NumPy
_FREE = 16 * 2**20  # bytes of tensors that any file may describe
_MOST_REPEATS = 8  # bytes of tensors for each byte of the file, beyond these


@dataclasses.dataclass(frozen=True)
class NumberType:
    """The type of a storage's numbers: its name in PyTorch, and how they are stored."""

    name: str
    stored: str  # for NumPy, without the byte order


_TYPES = {
    "Double": NumberType("float64", "f8"),
    "Float": NumberType("float32", "f4"),
    "Half": NumberType("float16", "f2"),
    "BFloat16": NumberType("bfloat16", "u2"),
    "Long": NumberType("int64", "i8"),
    "Int": NumberType("int32", "i4"),
    "Short": NumberType("int16", "i2"),
    "Char": NumberType("int8", "i1"),
    "Byte": NumberType("uint8", "u1"),
    "Bool": NumberType("bool", "u1"),
    "ComplexDouble": NumberType("complex128", "c16"),
    "ComplexFloat": NumberType("complex64", "c8"),
}


@dataclasses.dataclass(eq=False)
class Storage:
    """A sequence of numbers in a file, which one or more tensors view."""

    path: Path
    type: NumberType
    count: int
    order: str  # of bytes: < or >
    start: int = 0  # its place in the file, known when the pickle has been read
    checksum: int | None = None  # CRC-32; None: the file has none

    @property
    def byte_count(self) -> int:
        return self.count * np.dtype(self.type.stored).itemsize

    @functools.cached_property
    def numbers(self) -> np.ndarray:
        """All numbers [count] in the byte order of this machine; bfloat16 becomes float32, without loss."""
        raw = np.empty(self.byte_count, np.uint8)
        try:
            with self.path.open("rb") as stream:
                stream.seek(self.start)
                length = stream.readinto(raw)
        except OSError as error:
            raise UserError(f"cannot be read: {error.strerror}") from error
        if length != self.byte_count:
            raise damaged("it ends within a tensor")
        if self.checksum is not None and zlib.crc32(raw) != self.checksum:
            raise damaged("the checksum of a tensor differs")
        numbers = raw.view(np.dtype(self.type.stored).newbyteorder(self.order))
        numbers = numbers.astype(numbers.dtype.newbyteorder("="), copy=False)
        if self.type.name == "bfloat16":
            return (numbers.astype(np.uint32) << 16).view(np.float32)
        return numbers != 0 if self.type.name == "bool" else numbers


@dataclasses.dataclass(frozen=True, eq=False)
class Window:
    """A part of a storage: all of it, or a view that PyTorch's older files describe."""

    storage: Storage
    first: int
    count: int


@dataclasses.dataclass(frozen=True, eq=False)
class TorchTensor:
    """A tensor of a PyTorch file, which `array` reads."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in numbers

    @property
    def dtype(self) -> str:
        """The type of the numbers by its name in PyTorch: float32, bfloat16, int64 ..."""
        return self.storage.type.name

    def array(self) -> np.ndarray:
        """Return the values as a read-only array; a bfloat16 tensor's are float32.

        Tensors that share a storage share memory. The strides are those in PyTorch, so that the array need not be
        contiguous.

        Raises:
            UserError: if the file has changed, is damaged or cannot be read; the message lacks the file's name.
        """
        numbers = self.storage.numbers[self.offset :]
        if 0 in self.shape:
            return np.zeros(self.shape, numbers.dtype)
        strides = [
            stride * numbers.itemsize if n > 1 else 0 for n, stride in zip(self.shape, self.strides, strict=True)
        ]
        return np.lib.stride_tricks.as_strided(numbers, self.shape, strides, writeable=False)


class TensorTable:
    """The storages of a file, created while its pickle is read.

    Args:
        size: bytes of the file. A storage with more is refused, and so are tensors that together have more than 8
            times as many plus 16 MiB.
        order: byte order of the numbers, < or >.
    """

    def __init__(self, path: Path, size: int, order: str = "<"):
        self.path, self.size, self.order = path, size, order
        self.storages: dict[str, Storage] = {}
        self._free = _FREE + _MOST_REPEATS * size
        rebuild, parameter = Function(self._rebuild), Function(self._parameter)
        self.names = {
            **COLLECTIONS,
            **{f"torch.{name}Storage": kind for name, kind in _TYPES.items()},
            "torch.Size": only_argument(tuple),
            "torch._utils._rebuild_tensor": rebuild,
            "torch._utils._rebuild_tensor_v2": rebuild,
            "torch._utils._rebuild_parameter": parameter,
            "torch._utils._rebuild_parameter_with_state": parameter,
        }

    def refuse(self, name: str) -> UserError:
        """Return the error for a name in the pickle that is not in the table's `names`."""
        if name.startswith(("torch.Q", "torch.q", "torch._utils._rebuild_qtensor")):
            return unsupported("quantised tensors")
        if name.startswith(("torch.sparse", "torch._utils._rebuild_sparse")):
            return unsupported("sparse tensors")
        if name.startswith(("torch._utils._rebuild", "torch._tensor._rebuild", "torch.storage.")):
            return unsupported(f"tensors of another kind ({shortened(name)})")
        return python_object(name)

    def persistent(self, key: Any) -> Window:
        """Return what a persistent id stands for: a storage, or a view of one."""
        match key:
            case ("storage", NumberType() as kind, str() as name, str(), int() as count, *view):
                match view:
                    case [] | [None]:
                        return self._window(kind, name, count, (0, count))
                    case [(str(), int() as first, int() as length)]:
                        return self._window(kind, name, count, (first, length))
        raise damaged("a storage that is described in another way")

    def _window(self, kind: NumberType, key: str, count: int, part: tuple[int, int]) -> Window:
        storage = self.storages.get(key)
        if storage is None:
            storage = Storage(self.path, kind, count, self.order)
            self.storages[key] = storage
        if (storage.type, storage.count) != (kind, count):
            raise damaged(f"storage {shortened(key)} is described in two ways")
        if count < 0 or storage.byte_count > self.size:
            raise damaged(f"storage {shortened(key)} is larger than the file")
        first, length = part
        if first < 0 or length < 0 or first + length > count:
            raise damaged(f"a view reaches beyond storage {shortened(key)}")
        return Window(storage, first, length)

    def _rebuild(self, arguments: tuple) -> TorchTensor:
        """Return the tensor that the arguments of torch's _rebuild_tensor or _rebuild_tensor_v2 describe.

        Of v2's further arguments, metadata is refused, and the others are ignored.
        """
        match arguments:
            case (Window() as window, int() as offset, tuple() as shape, tuple() as strides, *rest):
                self._check(window, offset, shape, strides)
            case _:
                raise damaged("a tensor that is described in another way")
        if len(rest) > 2 and rest[2]:  # (requires_grad, backward_hooks, metadata)
            raise unsupported("tensors with metadata, such as a conjugate that was not computed")
        return TorchTensor(window.storage, window.first + offset, shape, strides)

    def _check(self, window: Window, offset: int, shape: tuple, strides: tuple) -> None:
        if len(shape) != len(strides) or len(shape) > _MOST_DIMENSIONS:
            raise damaged(f"a tensor with {len(shape)} dimensions and {len(strides)} strides")
        if not all(type(n) is int and 0 <= n < 2**63 for n in (offset, *shape, *strides)):
            raise damaged("a tensor with impossible sizes or strides")
        last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
        if (offset > window.count) if 0 in shape else (last >= window.count):
            raise damaged("a tensor reaches beyond its storage")
        # also where there are no values: NumPy refuses [0, 2**62]
        self._free -= math.prod(n for n in shape if n) * np.dtype(window.storage.type.stored).itemsize
        if self._free < 0:
            raise excessive(f"tensors that repeat their values to over {_MOST_REPEATS} times the size of the file")

    def _parameter(self, arguments: tuple) -> TorchTensor:
        match arguments:
            case (TorchTensor() as tensor, *_):
                return tensor
        raise damaged("a parameter without a tensor")
