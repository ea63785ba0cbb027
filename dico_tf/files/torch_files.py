"""A reader of the files of torch.save that needs no PyTorch and runs no code.

It reads the zip archives of PyTorch 1.6 and later, and the older format, which is a sequence of pickles and numbers.
"""

import io
import os
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

from dico_tf.errors import UserError
from dico_tf.files import inert_pickle
from dico_tf.files.inert_pickle import LARGEST_PICKLE, damaged, shortened, unsupported
from dico_tf.files.torch_tensors import Storage, TensorTable

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # the first values of the older format
_ZIP = b"PK\x03\x04"
_TAR = slice(257, 262), b"ustar"
_BYTE_ORDERS = {b"": "<", b"little": "<", b"big": ">"}  # "": written before PyTorch 2.1


def read(path: Path) -> Any:
    """Return the object in a file of torch.save, with a TorchTensor in place of each tensor and parameter.

    Numbers are read by `TorchTensor.array`; until then the file must stay as it is. The object consists of tensors,
    None, bool, int, float, str, bytes, list, tuple and dict; a file with anything else is refused. Sizes in a file
    are compared with its own size before memory is allocated.

    Raises:
        UserError: if the file cannot be read, is damaged, is not of torch.save, or would take excessive time or
            memory. The message lacks the file's name.
        UnsupportedError: if it is of before PyTorch 0.1.10 or from torch.jit.save, or if it holds quantised or sparse
            tensors, Python objects or compressed entries.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(512)
            if not head:
                raise damaged("it is empty")
            if head[_TAR[0]] == _TAR[1]:
                raise unsupported("data in the tar format of before PyTorch 0.1.10")
            stream.seek(0)
            return _read_zip(path, stream) if head.startswith(_ZIP) else _read_older(path, stream)
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror or error}") from error


def _size(stream: BinaryIO) -> int:
    return os.fstat(stream.fileno()).st_size


def _read_older(path: Path, stream: BinaryIO) -> Any:
    """Return the object of a file in the older format.

    It has five pickles (magic number, version, system, object, keys of the storages), then the storages in the order
    of their keys.
    """
    size = _size(stream)
    pickles, table = io.BytesIO(stream.read(min(size, LARGEST_PICKLE))), TensorTable(path, size)
    try:
        magic = inert_pickle.load(pickles, {})
    except UserError:
        magic = None
    if magic != _MAGIC:
        raise UserError(
            f"is not a PyTorch file, it begins with {shortened(pickles.getvalue()[:24])}: give a file of torch.save "
            "or a .safetensors file"
        )
    try:
        if inert_pickle.load(pickles, {}) != _PROTOCOL:
            raise unsupported("data in another version of PyTorch's older format")
        inert_pickle.load(pickles, {})  # the byte order of the machine; numbers are little-endian on all
        result = inert_pickle.load(pickles, table.names, table.refuse, table.persistent)
        keys = inert_pickle.load(pickles, {})
    except UserError:
        if len(pickles.getvalue()) == LARGEST_PICKLE == pickles.tell():
            raise unsupported(f"over {LARGEST_PICKLE} bytes beside its tensors") from None
        raise
    if type(keys) is not list or not all(type(key) is str for key in keys):
        raise damaged("the list of storages is not one")
    if len(keys) != len(table.storages) or set(keys) != table.storages.keys():
        raise damaged("the list of storages is not that of the tensors")
    stream.seek(pickles.tell())
    for key in keys:
        _place(table.storages[key], stream)
    return result


def _place(storage: Storage, stream: BinaryIO) -> None:
    """Set where the numbers of a storage in the older format begin, and move the stream behind them.

    The stream must be at the storage: 8 bytes with the count of the numbers, then the numbers.
    """
    count = stream.read(8)
    storage.start = stream.tell()
    if len(count) < 8 or storage.start + storage.byte_count > _size(stream):
        raise damaged("it ends within its tensors")
    if struct.unpack("<q", count) != (storage.count,):
        raise damaged("a storage has another length than its tensors say")
    stream.seek(storage.byte_count, os.SEEK_CUR)


def _read_zip(path: Path, stream: BinaryIO) -> Any:
    """Return the object in an archive: that of the pickle FOLDER/data.pkl, with the storages FOLDER/data/KEY."""
    entries = _entries(stream)
    folders = [name.removesuffix("/data.pkl") for name in entries if name.endswith("/data.pkl")]
    if any(name.endswith("/constants.pkl") for name in entries):
        raise unsupported("a TorchScript program (torch.jit.load)")
    if len(folders) != 1:
        raise UserError(
            f"is a zip archive, but not of torch.save: expected one data.pkl, got {len(folders)}; give a file of "
            "torch.save"
        )
    (folder,) = folders
    byte_order = entries.get(f"{folder}/byteorder")
    byte_order = _content(stream, byte_order, 16) if byte_order else b""
    if byte_order not in _BYTE_ORDERS:
        raise damaged(f"unknown byte order {shortened(byte_order)}")
    table = TensorTable(path, _size(stream), _BYTE_ORDERS[byte_order])
    pickle = io.BytesIO(_content(stream, entries[f"{folder}/data.pkl"], LARGEST_PICKLE))
    result = inert_pickle.load(pickle, table.names, table.refuse, table.persistent)
    if sum(storage.byte_count for storage in table.storages.values()) > table.size:
        raise damaged("its storages are larger than the file")
    for key, storage in table.storages.items():
        entry = entries.get(f"{folder}/data/{key}")
        if entry is None or entry.file_size != storage.byte_count:
            raise damaged(f"entry {shortened(f'data/{key}')} is missing or of another length than its tensors say")
        storage.start, storage.checksum = _start(stream, entry), entry.CRC
    return result


def _entries(stream: BinaryIO) -> dict[str, zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(stream) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, struct.error, ValueError, NotImplementedError, EOFError, OverflowError) as error:
        raise damaged(f"zip archive: {error}") from None
    if not any(info.CRC for info in infos):  # torch.serialization.set_crc32_options(False)
        for info in infos:
            info.CRC = None
    entries = {info.filename: info for info in infos}
    if len(entries) != len(infos):
        raise damaged("two entries have one name")
    return entries


def _start(stream: BinaryIO, entry: zipfile.ZipInfo) -> int:
    """Return the place of an entry's bytes in the file.

    Raises UserError if they are compressed or encrypted, or are not where the archive says.
    """
    if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
        raise unsupported("compressed or encrypted entries")
    within = 0 <= entry.header_offset < _size(stream)
    stream.seek(entry.header_offset if within else 0)
    header = stream.read(30)
    if not within or len(header) < 30 or not header.startswith(_ZIP):
        raise damaged("an entry of the zip archive is not where it should be")
    start = entry.header_offset + 30 + sum(struct.unpack("<HH", header[26:]))  # lengths of name and extra field
    if entry.file_size != entry.compress_size or start + entry.file_size > _size(stream):
        raise damaged("an entry of the zip archive reaches beyond the file")
    return start


def _content(stream: BinaryIO, entry: zipfile.ZipInfo, largest: int) -> bytes:
    if entry.file_size > largest:
        raise unsupported(f"over {largest} bytes in {shortened(entry.filename)}")
    stream.seek(_start(stream, entry))
    content = stream.read(entry.file_size)
    if entry.CRC is not None and zlib.crc32(content) != entry.CRC:
        raise damaged(f"the checksum of {shortened(entry.filename)} differs")
    return content
