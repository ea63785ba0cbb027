"""Images that are decoded on demand, by number, and cached within a memory budget."""

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

_BLOCK = 64  # images per task when all are decoded: one task per small image would cost more than its decoding


class EncodedImages(Protocol):
    """A numbered collection of encoded images."""

    def open(self, number: int) -> str | BinaryIO:
        """Return the path or the open file of an encoded image."""

    def name(self, number: int) -> str:
        """Return what messages call the image: its path, or its place in a file."""

    def stamp(self, number: int) -> str:
        """Return a text that mostly changes when the image does. The image is not read, so some changes are missed.

        It has the size and modification time of an image's own file; otherwise the image's position in the dataset's
        files, its length, or both.
        """


@dataclasses.dataclass(frozen=True)
class ImageFiles:
    """Image files, whose `names` are relative to the folder `root`."""

    root: Path
    names: Sequence[str]

    def open(self, number: int) -> str:
        return self.name(number)

    def name(self, number: int) -> str:
        return str(self.root / str(self.names[number]))

    def stamp(self, number: int) -> str:
        status = os.stat(self.name(number))
        return f"{status.st_size} {status.st_mtime_ns}"


@dataclasses.dataclass(frozen=True)
class ImagesInMemory:
    """Encoded images in memory, for datasets whose files have no random access."""

    title: str
    images: Sequence[bytes]

    def open(self, number: int) -> BinaryIO:
        return io.BytesIO(self.images[number])

    def name(self, number: int) -> str:
        return f"image {number} of {self.title}"

    def stamp(self, number: int) -> str:
        return str(len(self.images[number]))


class LazyImages:
    """Square images that are decoded on demand: central squares for evaluation, or windows for training.

    Args:
        sizes: [N, 2], (width, height) of each encoded image after it is turned upright.
        image_size: side of all squares in pixels.
        short_side: pixels to which an image's short side is resized before its central square is cut out.
        budget: memory for the cache of decoded images.
    """

    def __init__(
        self, encoded: EncodedImages, sizes: np.ndarray, image_size: int, short_side: int, budget: MemoryBudget
    ) -> None:
        self._encoded, self._budget, self._cache = encoded, budget, {}
        self.sizes, self.image_size, self.short_side = np.asarray(sizes, np.int32), image_size, short_side

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return (self.image_size, self.image_size, 3)

    def at(self, image_size: int, short_side: int, cached: bool = True) -> "LazyImages":
        """Return the same images at another size. Without `cached` they are decoded anew at each use."""
        return LazyImages(
            self._encoded, self.sizes, image_size, short_side, self._budget if cached else MemoryBudget(0)
        )

    def name(self, number: int) -> str:
        return self._encoded.name(number)

    def stamp(self, number: int) -> str:
        return f"{self.sizes[number].tolist()} {self._encoded.stamp(number)}"

    def squares(self, numbers: np.ndarray) -> np.ndarray:
        """Return the central squares of the images `numbers` [...]: uint8 [..., size, size, 3]."""
        shape = (self.image_size, self.image_size, 3)
        flat = numbers.ravel().tolist()
        out = np.empty((len(flat), *shape), np.uint8)
        self._each(lambda n, place: np.copyto(place, self._square(n)), flat, out)
        return out.reshape(*numbers.shape, *shape)

    def windows(self, numbers: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Return windows of images, resized: uint8 [B, S, size, size, 3].

        Args:
            numbers: images, [B] (S windows of each, which is decoded once) or [B, S] (one window of each).
            places: the windows, [B, S, (left, top, right, bottom)] in pixels of the upright image; what lies outside of
                it is mirrored. right <= left means the central square.
        """
        flat = numbers.ravel().tolist()
        grouped = places.reshape(len(flat), -1, 4)
        out = np.empty((*grouped.shape[:2], self.image_size, self.image_size, 3), np.uint8)
        self._each(self._cut, flat, grouped, out)
        return out.reshape(*places.shape[:-1], *out.shape[2:])

    def decoded(self, numbers: np.ndarray, title: str) -> tuple[np.ndarray, dict[int, Exception]]:
        """Decode the central squares of the images `numbers` [N] in parallel, without the cache.

        Returns:
            The squares, uint8 [N, size, size, 3], and {position in `numbers`: error} of those that cannot be decoded,
            whose pixels are arbitrary. `title` describes the progress bar.
        """
        count, size = len(numbers), self.image_size
        out = np.empty((count, size, size, 3), np.uint8)

        def block(first: int) -> dict[int, Exception]:
            places = range(first, min(first + _BLOCK, count))
            errors = {
                p: image_decoding.tried(lambda p: np.copyto(out[p], self._decoded(int(numbers[p]))), p) for p in places
            }
            return {place: error for place, error in errors.items() if error is not None}

        done = image_decoding.pool().map(block, range(0, count, _BLOCK))
        faults = {}
        for errors in image_decoding.progress(done, -(-count // _BLOCK), title, _BLOCK):
            faults |= errors
        return out, faults

    def _each(self, action: Callable[..., Any], numbers: list[int], *rest: Any) -> None:
        errors = image_decoding.pool().map(lambda *given: image_decoding.tried(action, *given), numbers, *rest)
        for number, error in zip(numbers, list(errors), strict=True):
            if error is not None:
                raise UserError(
                    f"cannot read {self.name(number)}: {error}; repair or replace it, then run the same command again"
                ) from error

    def _decoded(self, number: int) -> np.ndarray:
        return image_decoding.decode(self._encoded.open(number), self.image_size, self.short_side)

    def _square(self, number: int) -> np.ndarray:
        square = self._cache.get(("square", number))
        return self._remember("square", number, self._decoded(number)) if square is None else square

    def _whole(self, number: int) -> Image.Image:
        cached = self._cache.get(("whole", number))
        if cached is not None:
            return Image.fromarray(cached)
        image = image_decoding.whole(self._encoded.open(number), image_decoding.ENOUGH * self.image_size)
        if self._budget.left:
            self._remember("whole", number, np.asarray(image))
        return image

    def _remember(self, kind: str, number: int, pixels: np.ndarray) -> np.ndarray:
        if self._budget.take(pixels.nbytes):
            self._cache[kind, number] = pixels  # two threads at once store the same pixels
        return pixels

    def _cut(self, number: int, places: np.ndarray, out: np.ndarray) -> None:
        image = self._whole(number)
        for n, place in enumerate(places):
            if place[2] > place[0]:
                out[n] = image_decoding.window(image, self.image_size, place, self.sizes[number])
            elif self.short_side > self.image_size:
                out[n] = image_decoding.square(image, self.image_size, self.short_side)
            else:  # an evaluation decodes for small squares at fewer pixels than windows need
                out[n] = self._square(number)
