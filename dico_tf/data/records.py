"""Images in TFRecord and ArrayRecord files, read at random by file and offset. Needs no TensorFlow.

A TFRecord is its length (uint64), a checksum of that, the data, and a checksum of the data (uint32 each).
"""

import array
import dataclasses
import io
import mmap
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from dico_tf.data import image_decoding, tf_example
from dico_tf.errors import UserError

_HEAD, _TAIL = 12, 4  # bytes before and after a record's data


@dataclasses.dataclass(frozen=True)
class Keys:
    """Names of an example's features: the image, its class, and its name ("" if images have no names)."""

    image: str
    label: str
    id: str


@dataclasses.dataclass(frozen=True, eq=False)
class RecordTable:
    """Label, name, size and place of every image of a split, read without decoding the images."""

    labels: np.ndarray  # int64 [N]
    ids: np.ndarray  # str [N], or [0] if images have no names
    sizes: np.ndarray  # int32 [N, (width, height)], upright
    places: np.ndarray  # int64 [N, (file, first byte, bytes)] of the encoded images; TFRecord files only


@dataclasses.dataclass(frozen=True)
class TFRecordImages:
    """Encoded images in TFRecord files. A file is opened for each image, since not all files can stay open at once."""

    files: Sequence[Path]
    places: np.ndarray

    def open(self, number: int) -> BinaryIO:
        file, start, length = self.places[number].tolist()
        with self.files[file].open("rb") as stream:
            stream.seek(start)
            return io.BytesIO(stream.read(length))

    def name(self, number: int) -> str:
        file, start, _ = self.places[number].tolist()
        return f"the image at byte {start} of {self.files[file]}"

    def stamp(self, number: int) -> str:
        file, start, length = self.places[number].tolist()
        return f"{self.files[file].name} {start} {length}"


@dataclasses.dataclass(frozen=True)
class ArrayRecordImages:
    """Encoded images in ArrayRecord files, whose records are read by number."""

    records: Sequence[bytes]
    keys: Keys
    title: str

    def open(self, number: int) -> BinaryIO:
        record = self.records[number]
        return io.BytesIO(tf_example.features(record, 0, len(record))[self.keys.image].bytes())

    def name(self, number: int) -> str:
        return f"record {number} of {self.title}"

    def stamp(self, number: int) -> str:
        return self.name(number)


def table(rows: Iterable[tuple], count: int, title: str) -> RecordTable:
    """Collect rows (label, name, (width, height), place) into a table. `title` names the dataset in messages.

    Names are dropped unless all rows have one.

    Raises:
        UserError: if there are more or fewer than `count` rows.
    """
    labels, sizes, places, ids = array.array("q"), array.array("i"), array.array("q"), []
    for label, name, size, place in image_decoding.progress(rows, count, f"indexing {title}"):
        labels.append(label)
        sizes.extend(size)
        places.extend(place)
        if name:
            ids.append(name)
    if len(labels) != count:
        raise UserError(f"{title}: expected {count} records in the files, got {len(labels)}: copy the dataset again")
    return RecordTable(
        np.array(labels, np.int64),
        np.asarray(ids if len(ids) == count else (), np.str_),
        np.array(sizes, np.int32).reshape(-1, 2),
        np.array(places, np.int64).reshape(-1, 3),
    )


def in_files(files: Sequence[Path], keys: Keys, size: tuple[int, int] | None) -> Iterator[tuple]:
    """Yield (label, name, size, place) for each record of TFRecord files.

    A place is (number of the file in `files`, first byte of the encoded image, its number of bytes).

    Args:
        size: (width, height) of all images, if they are equal. Otherwise the start of each image is read for its size.

    Raises:
        UserError: if a record is damaged or lacks a feature of `keys`.
    """
    for number, path in enumerate(files):
        for data, start, end in _records(path):
            try:
                label, name, image = _row(tf_example.features(data, start, end), keys)
                image_size = size or _size(image)
            except Exception as error:  # Pillow raises nearly any kind
                raise _damaged(path, start - _HEAD, f"{type(error).__name__}: {error}") from error
            yield label, name, image_size, (number, image.start, image.end - image.start)


def in_array(records: Sequence[bytes], keys: Keys, size: tuple[int, int] | None, title: str) -> Iterator[tuple]:
    """Yield (label, name, size, place) for each record of ArrayRecord files, as `in_files`; place = (0, record, 0).

    Raises:
        UserError: if a record of the dataset `title` is damaged or lacks a feature of `keys`.
    """
    for number in range(len(records)):
        try:
            record = records[number]
            label, name, image = _row(tf_example.features(record, 0, len(record)), keys)
            image_size = size or _size(image)
        except Exception as error:
            raise UserError(
                f"record {number} of {title} is damaged ({type(error).__name__}: {error}): copy the dataset again"
            ) from error
        yield label, name, image_size, (0, number, 0)


def _row(features: dict[str, tf_example.Span], keys: Keys) -> tuple[int, str, tf_example.Span]:
    """Return (label, name, encoded image) of an example."""
    missing = [key for key in (keys.image, keys.label) if key not in features]
    if missing:
        raise ValueError(f"it has no feature {' and '.join(missing)}")
    name = features[keys.id].bytes().decode(errors="replace") if keys.id in features else ""
    return features[keys.label].integer(), name, features[keys.image]


def _records(path: Path) -> Iterator[tuple[Any, int, int]]:
    """Yield each record data[start:end] of a file as (data, start, end), after a check of its length's checksum."""
    with path.open("rb") as stream:
        whole = path.stat().st_size
        if not whole:
            return
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            at = 0
            while at < whole:
                head = data[at : at + _HEAD]
                if len(head) < _HEAD or struct.unpack("<I", head[8:])[0] != _masked(_crc32c(head[:8])):
                    raise _damaged(path, at, "no record begins here")
                start = at + _HEAD
                end = start + struct.unpack("<Q", head[:8])[0]
                if end + _TAIL > whole:
                    raise _damaged(path, at, "the file ends within the record")
                yield data, start, end
                at = end + _TAIL


def _damaged(path: Path, at: int, why: str) -> UserError:
    return UserError(
        f"{path} is damaged at byte {at} ({why}): copy the file again, or remove the dataset's folder to prepare it "
        "anew"
    )


class _Reader(io.RawIOBase):
    """A file object over a span, so that only the bytes that are read come into memory."""

    def __init__(self, span: tf_example.Span) -> None:
        self._span, self._at = span, span.start

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        part = self._span.data[self._at : min(self._at + len(buffer), self._span.end)]
        buffer[: len(part)] = part
        self._at += len(part)
        return len(part)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: self._span.start, io.SEEK_CUR: self._at, io.SEEK_END: self._span.end}[whence]
        self._at = max(origin + offset, self._span.start)
        return self.tell()

    def tell(self) -> int:
        return self._at - self._span.start


def _size(span: tf_example.Span) -> tuple[int, int]:
    with Image.open(io.BufferedReader(_Reader(span), 4096)) as image:
        return image_decoding.upright_size(image)


def _crc_table() -> tuple[int, ...]:
    """Return the table of CRC-32C (Castagnoli), reflected."""
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return tuple(table)


_CRC = _crc_table()


def _crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF


def _masked(crc: int) -> int:
    """Return a checksum as TFRecord stores it: a plain checksum of data that contains checksums would be weak."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
