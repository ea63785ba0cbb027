"""Pictures that are decoded when asked for, by number; what was decoded is kept while there is room."""

import dataclasses
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from PIL import Image

from dico_tf.data import image_decoding
from dico_tf.data.memory_budget import MemoryBudget
from dico_tf.errors import UserError

_BLOCK = 64  # pictures of a task when all are decoded: of small ones the threads' errands would cost the most


class EncodedImages(Protocol):
    """Where encoded pictures stand."""

    def open(self, number: int) -> str | BinaryIO: ...

    def name(self, number: int) -> str:
        """What a person finds the picture by."""

    def stamp(self, number: int) -> str:
        """Changes with the picture, as far as can be told without reading it."""


@dataclasses.dataclass(frozen=True)
class ImageFiles:
    root: Path
    names: Sequence[str]

    def open(self, number: int) -> str:
        return self.name(number)

    def name(self, number: int) -> str:
        return str(self.root / str(self.names[number]))

    def stamp(self, number: int) -> str:
        found = os.stat(self.name(number))
        return f"{found.st_size} {found.st_mtime_ns}"


@dataclasses.dataclass(frozen=True)
class ImagesInMemory:
    """Encoded pictures in memory, of a set whose files know no random access."""

    title: str
    pictures: Sequence[bytes]

    def open(self, number: int) -> BinaryIO:
        return io.BytesIO(self.pictures[number])

    def name(self, number: int) -> str:
        return f"picture {number} of {self.title}"

    def stamp(self, number: int) -> str:
        return str(len(self.pictures[number]))


class LazyImages:
    """uint8 squares as an evaluation sees them, and windows of whole pictures as training does."""

    def __init__(
        self, shelf: EncodedImages, sizes: np.ndarray, image_size: int, short_side: int, room: MemoryBudget
    ) -> None:
        self._shelf, self._room, self._kept = shelf, room, {}
        self.sizes, self.image_size, self.short_side = (
            np.asarray(sizes, np.int32),
            image_size,
            short_side,
        )  # [N, (w, h)]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return (self.image_size, self.image_size, 3)

    def at(self, image_size: int, short_side: int, kept: bool = True) -> "LazyImages":
        """The same pictures as squares of another size, kept in the same room, or not at all."""
        return LazyImages(self._shelf, self.sizes, image_size, short_side, self._room if kept else MemoryBudget(0))

    def name(self, number: int) -> str:
        return self._shelf.name(number)

    def stamp(self, number: int) -> str:
        return f"{self.sizes[number].tolist()} {self._shelf.stamp(number)}"

    def squares(self, numbers: np.ndarray) -> np.ndarray:
        """[..., size, size, 3] for numbers of any shape."""
        shape = (self.image_size, self.image_size, 3)
        flat = numbers.ravel().tolist()
        out = np.empty((len(flat), *shape), np.uint8)
        self._each(lambda n, place: np.copyto(place, self._square(n)), flat, out)
        return out.reshape(*numbers.shape, *shape)

    def windows(self, numbers: np.ndarray, places: np.ndarray) -> np.ndarray:
        """[B, S, size, size, 3] of numbers [B] or [B, S] and places [B, S, (left, top, right, bottom)].

        A place without area is the evaluation's square. Of a picture with several places the file is decoded once.
        """
        flat = numbers.ravel().tolist()
        grouped = places.reshape(len(flat), -1, 4)
        out = np.empty((*grouped.shape[:2], self.image_size, self.image_size, 3), np.uint8)
        self._each(self._cut, flat, grouped, out)
        return out.reshape(*places.shape[:-1], *out.shape[2:])

    def decoded(self, numbers: np.ndarray, title: str) -> tuple[np.ndarray, dict[int, Exception]]:
        """All squares [N, size, size, 3] at once and, by place, why there is none."""
        count, size = len(numbers), self.image_size
        out = np.empty((count, size, size, 3), np.uint8)

        def block(first: int) -> dict[int, Exception]:
            places = range(first, min(first + _BLOCK, count))
            found = {
                p: image_decoding.tried(lambda p: np.copyto(out[p], self._decoded(int(numbers[p]))), p) for p in places
            }
            return {place: error for place, error in found.items() if error is not None}

        done = image_decoding.pool().map(block, range(0, count, _BLOCK))
        faults = {}
        for found in image_decoding.progress(done, -(-count // _BLOCK), title, _BLOCK):
            faults |= found
        return out, faults

    def _each(self, action: Callable[..., Any], numbers: list[int], *rest: Any) -> None:
        found = image_decoding.pool().map(lambda *given: image_decoding.tried(action, *given), numbers, *rest)
        for number, error in zip(numbers, list(found), strict=True):
            if error is not None:
                raise UserError(
                    f"cannot read {self.name(number)}: {error}; repair or replace it, then the same command continues"
                ) from error

    def _decoded(self, number: int) -> np.ndarray:
        return image_decoding.decode(self._shelf.open(number), self.image_size, self.short_side)

    def _square(self, number: int) -> np.ndarray:
        found = self._kept.get(("square", number))
        return self._keep("square", number, self._decoded(number)) if found is None else found

    def _whole(self, number: int) -> Image.Image:
        found = self._kept.get(("whole", number))
        if found is not None:
            return Image.fromarray(found)
        image = image_decoding.whole(self._shelf.open(number), image_decoding.ENOUGH * self.image_size)
        if self._room.left:
            self._keep("whole", number, np.asarray(image))
        return image

    def _keep(self, kind: str, number: int, found: np.ndarray) -> np.ndarray:
        if self._room.take(found.nbytes):
            self._kept[kind, number] = found  # two threads that meet here leave the same picture
        return found

    def _cut(self, number: int, places: np.ndarray, out: np.ndarray) -> None:
        image = self._whole(number)
        for n, place in enumerate(places):
            if place[2] > place[0]:
                out[n] = image_decoding.window(image, self.image_size, place, self.sizes[number])
            elif self.short_side > self.image_size:
                out[n] = image_decoding.square(image, self.image_size, self.short_side)
            else:  # an evaluation decodes for small squares at fewer pixels than windows need
                out[n] = self._square(number)
