"""Images with segmentation masks: for evaluation whole, padded to one size; for training cropped.

A mask is an image whose pixels are class numbers, in grey or with a palette.
"""

import dataclasses
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from dico_tf.data import image_decoding
from dico_tf.data.memory_budget import MemoryBudget
from dico_tf.errors import UserError

VOID = 255  # pixels without a class, in every mask once it is read, whatever value its file has
STRIDE = 16  # the sides of frames are multiples of it; every output stride divides it
Pair = tuple[np.ndarray, np.ndarray]  # uint8 image [..., h, w, 3] and mask [..., h, w]

_GREY = ("1", "L", "P")  # Pillow's modes of masks


def read_mask(path: str, void: int) -> np.ndarray:
    """Return the class numbers of a mask file, uint8 [h, w], with VOID (255) in place of the value `void`.

    Args:
        void: value in the file of pixels without a class; -1 = there are none.

    Raises:
        ValueError: if the pixels are not numbers from 0 to 255. A damaged file raises whatever Pillow raises.
    """
    values = _mask_values(path)
    return values if void in (VOID, -1) else np.where(values == void, np.uint8(VOID), values)


def _mask_values(path: str) -> np.ndarray:
    with Image.open(path) as image:
        image.load()
        if image.mode not in _GREY and not image.mode.startswith("I"):
            raise ValueError(f"its pixels are {image.mode}, not class numbers: save masks in grey or with a palette")
        values = np.asarray(image)
    if values.max(initial=0) > 255 or values.min(initial=0) < 0:
        raise ValueError(f"expected pixels from 0 to 255 (classes are 0 to 254), got {values.min()} to {values.max()}")
    return values.astype(np.uint8)


@dataclasses.dataclass(frozen=True)
class MaskFacts:
    """Size, highest class and checksum of a mask file, read once before a run begins."""

    size: tuple[int, int]  # (width, height)
    highest: int  # class; -1 if all pixels are void
    checksum: int  # CRC-32 of the pixels


def mask_facts(path: str, void: int) -> MaskFacts:
    """Read a mask file and return its facts; `void` and errors as for `read_mask`."""
    values = _mask_values(path)
    counts = np.bincount(values.ravel(), minlength=256)
    if void >= 0:
        counts[void] = 0
    classes = np.flatnonzero(counts)
    return MaskFacts(values.shape[::-1], int(classes[-1]) if len(classes) else -1, zlib.crc32(values.tobytes()))


class MaskedImages:
    """Images and masks that are read on demand, by number, and cached within a memory budget.

    `paths` are pairs (image, mask), `sizes` [N, 2] their (width, height). `void` is the value of pixels without a class
    in the mask files, `fill` the RGB colour with which images are padded.
    """

    def __init__(
        self, paths: Sequence[tuple[str, str]], sizes: np.ndarray, void: int, fill: Sequence[int], budget: MemoryBudget
    ) -> None:
        self.paths, self.sizes, self.void = list(paths), np.asarray(sizes, np.int32), void  # sizes [N, (w, h)]
        self.fill, self._budget, self._cache = np.asarray(fill, np.uint8), budget, {}

    def framed(self, numbers: np.ndarray, frame: tuple[int, int]) -> Pair:
        """Return whole images [N, height, width, 3] and masks [N, height, width], padded to `frame` (height, width).

        An image lies at the upper left; padding has the colour `fill` and in the mask VOID.
        """
        out = self._empty(len(numbers), frame)
        self._each(_whole, numbers, *out)
        return out

    def crops(self, numbers: np.ndarray, places: np.ndarray, side: int) -> Pair:
        """Return crops of images [B, side, side, 3] and masks [B, side, side], padded as in `framed`.

        Args:
            places: int [B, (width, height, left, top)]: an image is resized to width x height pixels, and the crop
                begins at (left, top) of the result. It may reach beyond the result on every side.
        """
        out = self._empty(len(numbers), (side, side))
        self._each(_crop, numbers, *out, places)
        return out

    def pair(self, number: int) -> Pair:
        """Return a whole image, uint8 [h, w, 3], and its mask, uint8 [h, w], without padding."""
        pair = self._cache.get(number)
        if pair is None:
            image, mask = self.paths[number]
            pair = np.asarray(image_decoding.whole(image, 2**30)), read_mask(mask, self.void)
            if self._budget.take(pair[0].nbytes + pair[1].nbytes):
                self._cache[number] = pair
        return pair

    def _empty(self, count: int, sides: tuple[int, int]) -> Pair:
        images = np.empty((count, *sides, 3), np.uint8)
        images[...] = self.fill
        return images, np.full((count, *sides), VOID, np.uint8)

    def _each(self, action: Callable[..., None], numbers: np.ndarray, *rest: Any) -> None:
        def one(number: int, *given: Any) -> None:
            action(*self.pair(number), *given)

        errors = image_decoding.pool().map(lambda *given: image_decoding.tried(one, *given), numbers.tolist(), *rest)
        for number, error in zip(numbers.tolist(), list(errors), strict=True):
            if error is not None:
                raise UserError(
                    f"cannot read {' or '.join(self.paths[number])}: {error}; repair or replace it, then run the same "
                    "command again"
                ) from error


def _whole(image: np.ndarray, mask: np.ndarray, image_out: np.ndarray, mask_out: np.ndarray) -> None:
    height, width = mask.shape
    image_out[:height, :width], mask_out[:height, :width] = image, mask


def _crop(image: np.ndarray, mask: np.ndarray, image_out: np.ndarray, mask_out: np.ndarray, place: np.ndarray) -> None:
    """Write the crop at `place` (see `crops`). The image is resized bilinear, the mask by the nearest pixel."""
    side = len(mask_out)
    full, resized, corner = np.array(mask.shape[::-1]), place[:2], place[2:]  # (width, height), (left, top)
    low, high = np.maximum(corner, 0), np.minimum(corner + side, resized)
    box = tuple((np.concatenate([low, high]) * np.tile(full / resized, 2)).tolist())
    size = tuple((high - low).tolist())
    (left, top), (right, bottom) = low - corner, high - corner
    for values, out, method in (
        (image, image_out, Image.Resampling.BILINEAR),
        (mask, mask_out, Image.Resampling.NEAREST),
    ):
        out[top:bottom, left:right] = np.asarray(Image.fromarray(values).resize(size, method, box=box))


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SegmentationSplit:
    """Images with masks of one split: crops of `image_size` for training, whole images in `frame` for evaluation."""

    images: MaskedImages
    numbers: np.ndarray  # int64 [N], positions in `images`
    ids: np.ndarray  # str [N]
    checksums: np.ndarray  # int64 [N], of the masks
    image_size: int
    frame: tuple[int, int]  # (height, width)

    videos = None  # as in a `Split` without videos

    @property
    def size(self) -> int:
        return len(self.ids)

    def subset(self, positions: np.ndarray) -> "SegmentationSplit":
        own = {name: getattr(self, name)[positions] for name in ("numbers", "ids", "checksums")}
        return dataclasses.replace(self, **own)

    def image_sizes(self, positions: np.ndarray) -> np.ndarray:
        """Return the sizes of the whole images at positions [...]: int32 [..., (width, height)]."""
        return self.images.sizes[self.numbers[positions]]

    def framed(self, positions: np.ndarray) -> Pair:
        return self.images.framed(self.numbers[positions], self.frame)

    def crops(self, positions: np.ndarray, places: np.ndarray) -> Pair:
        return self.images.crops(self.numbers[positions], places, self.image_size)

    @property
    def marks(self) -> np.ndarray:
        """Numbers that represent the masks in the dataset's fingerprint, int64 [N]: their checksums."""
        return self.checksums


def frame_of(sizes: np.ndarray) -> tuple[int, int]:
    """Return the smallest (height, width), multiples of 16, into which all images of `sizes` [N, (w, h)] fit."""
    width, height = (-(-sizes.max(0) // STRIDE) * STRIDE).tolist()
    return height, width
