"""Pickles and PyTorch files, written opcode by opcode: what torch.save would never write."""

import pickle
import struct
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2)
START, STOP = b"\x80\x02", b"."
FLOATS = b"ctorch\nFloatStorage\n"
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"


def value(content: object) -> bytes:
    """Return the opcodes that push a plain value."""
    return pickle.dumps(content, 2)[len(START) : -len(STOP)]


def storage(count: int, key: str = "0", kind: bytes = FLOATS, more: Sequence[object] = ()) -> bytes:
    """Return the opcodes that push a storage; `more` are further parts of its persistent id."""
    parts = b"".join(map(value, more))
    return b"(" + value("storage") + kind + value(key) + value("cpu") + value(count) + parts + b"tQ"


def tensor(window: bytes, offset: object, shape: object, strides: object, more: bytes = b"\x89}") -> bytes:
    """Return the opcodes that push a tensor of a storage; `more` are requires_grad, hooks and metadata."""
    return REBUILD + b"(" + window + value(offset) + value(shape) + value(strides) + more + b"tR"


def state_dict(name: str, opcodes: bytes) -> bytes:
    """Return the pickle of {name: what the opcodes push}."""
    return START + b"}" + value(name) + opcodes + b"s" + STOP


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> Path:
    """Write a state dict of float32 arrays as a zip archive."""
    opcodes, storages = b"", {}
    for number, (name, array) in enumerate(arrays.items()):
        array = np.ascontiguousarray(array, "<f4")
        strides = tuple(stride // 4 for stride in array.strides)
        opcodes += value(name) + tensor(storage(array.size, str(number)), 0, array.shape, strides) + b"s"
        storages[str(number)] = array.tobytes()
    return write_zip(path, START + b"ccollections\nOrderedDict\n)R" + opcodes + STOP, storages)


def write_older(path: Path, content: bytes, storages: Mapping[str, bytes], counts: Sequence[int] = ()) -> Path:
    """Write a file of the older format; counts are those of floats unless given."""
    counts = counts or [len(part) // 4 for part in storages.values()]
    parts = [struct.pack("<q", count) + part for count, part in zip(counts, storages.values(), strict=True)]
    path.write_bytes(MAGIC + content + pickle.dumps(list(storages), 2) + b"".join(parts))
    return path


def write_zip(
    path: Path, content: bytes, storages: Mapping[str, bytes], folder: str = "archive", **options: int
) -> Path:
    """Write a zip archive; options are those of ZipFile."""
    with zipfile.ZipFile(path, "w", **options) as archive:
        archive.writestr(f"{folder}/data.pkl", content)
        archive.writestr(f"{folder}/byteorder", "little")
        for key, part in storages.items():
            archive.writestr(f"{folder}/data/{key}", part)
    return path
