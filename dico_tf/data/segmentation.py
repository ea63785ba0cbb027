"""MaskedImages: whole pictures with their masks, in frames of one size to be judged and in crops to learn from."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from dico_tf.data import image_decoding, masks
from dico_tf.data.masks import VOID
from dico_tf.data.memory_budget import MemoryBudget
from dico_tf.errors import UserError

STRIDE = 16  # frames are multiples of it, which every output stride divides
Pair = tuple[np.ndarray, np.ndarray]  # uint8 picture [..., h, w, 3] and mask [..., h, w]


class MaskedImages:
    """Pictures and masks that are read when asked for, by number; they are kept while there is room."""

    def __init__(
        self, paths: Sequence[tuple[str, str]], sizes: np.ndarray, void: int, fill: Sequence[int], room: MemoryBudget
    ) -> None:
        self.paths, self.sizes, self.void = list(paths), np.asarray(sizes, np.int32), void  # sizes [N, (w, h)]
        self.fill, self._room, self._kept = np.asarray(fill, np.uint8), room, {}

    def framed(self, numbers: np.ndarray, frame: tuple[int, int]) -> Pair:
        """Whole scenes in the upper left of frames (height, width); around them mean colour and void."""
        out = self._empty(len(numbers), frame)
        self._each(_whole, numbers, *out)
        return out

    def crops(self, numbers: np.ndarray, places: np.ndarray, side: int) -> Pair:
        """Squares: of the scene resized to (width, height), the one at (left, top); places [B, 4] in this order."""
        out = self._empty(len(numbers), (side, side))
        self._each(_crop, numbers, *out, places)
        return out

    def pair(self, number: int) -> Pair:
        found = self._kept.get(number)
        if found is None:
            image, mask = self.paths[number]
            found = np.asarray(image_decoding.whole(image, 2**30)), masks.read(mask, self.void)
            if self._room.take(found[0].nbytes + found[1].nbytes):
                self._kept[number] = found
        return found

    def _empty(self, count: int, sides: tuple[int, int]) -> Pair:
        images = np.empty((count, *sides, 3), np.uint8)
        images[...] = self.fill
        return images, np.full((count, *sides), VOID, np.uint8)

    def _each(self, action: Callable[..., None], numbers: np.ndarray, *rest: Any) -> None:
        def one(number: int, *given: Any) -> None:
            action(*self.pair(number), *given)

        done = image_decoding.pool().map(lambda *given: image_decoding.tried(one, *given), numbers.tolist(), *rest)
        for number, error in zip(numbers.tolist(), list(done), strict=True):
            if error is not None:
                raise UserError(
                    f"cannot read {' or '.join(self.paths[number])}: {error}; repair or replace it, then the same "
                    "command continues"
                ) from error


def _whole(image: np.ndarray, mask: np.ndarray, image_out: np.ndarray, mask_out: np.ndarray) -> None:
    height, width = mask.shape
    image_out[:height, :width], mask_out[:height, :width] = image, mask


def _crop(image: np.ndarray, mask: np.ndarray, image_out: np.ndarray, mask_out: np.ndarray, place: np.ndarray) -> None:
    """Only what the crop shows is resized: the picture bilinear, antialiased, the mask by the nearest pixel."""
    side = len(mask_out)
    full, resized, corner = np.array(mask.shape[::-1]), place[:2], place[2:]  # (width, height), (left, top)
    low, high = np.maximum(corner, 0), np.minimum(corner + side, resized)
    box = tuple((np.concatenate([low, high]) * np.tile(full / resized, 2)).tolist())
    size = tuple((high - low).tolist())
    (left, top), (right, bottom) = low - corner, high - corner
    for values, out, way in (
        (image, image_out, Image.Resampling.BILINEAR),
        (mask, mask_out, Image.Resampling.NEAREST),
    ):
        out[top:bottom, left:right] = np.asarray(Image.fromarray(values).resize(size, way, box=box))


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SegmentationSplit:
    """MaskedImages of one split, cropped to squares of image_size when learned from and framed when judged."""

    scenes: MaskedImages
    numbers: np.ndarray  # int64 [N], in the scenes
    ids: np.ndarray  # str [N]
    checksums: np.ndarray  # int64 [N], of the masks
    image_size: int
    frame: tuple[int, int]  # (height, width)

    videos = None

    @property
    def size(self) -> int:
        return len(self.ids)

    def subset(self, positions: np.ndarray) -> "SegmentationSplit":
        own = {name: getattr(self, name)[positions] for name in ("numbers", "ids", "checksums")}
        return dataclasses.replace(self, **own)

    def image_sizes(self, positions: np.ndarray) -> np.ndarray:
        """int32 [..., (width, height)]"""
        return self.scenes.sizes[self.numbers[positions]]

    def framed(self, positions: np.ndarray) -> Pair:
        return self.scenes.framed(self.numbers[positions], self.frame)

    def crops(self, positions: np.ndarray, places: np.ndarray) -> Pair:
        return self.scenes.crops(self.numbers[positions], places, self.image_size)

    @property
    def marks(self) -> np.ndarray:
        """What tells other labels from these: int64 [N]."""
        return self.checksums


def frame_of(sizes: np.ndarray) -> tuple[int, int]:
    """(height, width) in which all pictures of sizes [N, (w, h)] have room."""
    width, height = (-(-sizes.max(0) // STRIDE) * STRIDE).tolist()
    return height, width
