"""Images with segmentation masks: whole in frames of one size for evaluation, and cropped for training.

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
    """Return a mask, uint8 [h, w], with VOID where the file has the value `void` (-1: nowhere).

    Raises:
        ValueError: if the file is no mask.
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
        raise ValueError(f"it has values from {values.min()} to {values.max()}: classes are 0 to 254")
    return values.astype(np.uint8)


@dataclasses.dataclass(frozen=True)
class MaskFacts:
    """Facts about a mask file that are checked before a run begins."""

    size: tuple[int, int]  # (width, height)
    highest: int  # class; -1 if all pixels are void
    checksum: int  # of the class numbers


def mask_facts(path: str, void: int) -> MaskFacts:
    """Return size, highest class and checksum of a mask file."""
    values = _mask_values(path)
    counts = np.bincount(values.ravel(), minlength=256)
    if void >= 0:
        counts[void] = 0
    classes = np.flatnonzero(counts)
    return MaskFacts(values.shape[::-1], int(classes[-1]) if len(classes) else -1, zlib.crc32(values.tobytes()))


class MaskedImages:
    """Images and masks that are read on demand, by number, and cached within a memory budget."""

    def __init__(
        self, paths: Sequence[tuple[str, str]], sizes: np.ndarray, void: int, fill: Sequence[int], budget: MemoryBudget
    ) -> None:
        self.paths, self.sizes, self.void = list(paths), np.asarray(sizes, np.int32), void  # sizes [N, (w, h)]
        self.fill, self._budget, self._cache = np.asarray(fill, np.uint8), budget, {}

    def framed(self, numbers: np.ndarray, frame: tuple[int, int]) -> Pair:
        """Return whole images and masks at the upper left of frames (height, width), padded with `fill` and void."""
        out = self._empty(len(numbers), frame)
        self._each(_whole, numbers, *out)
        return out

    def crops(self, numbers: np.ndarray, places: np.ndarray, side: int) -> Pair:
        """Return crops of side x side pixels.

        Args:
            places: [B, (width, height, left, top)]: the image is resized to width x height and cropped at (left, top).
        """
        out = self._empty(len(numbers), (side, side))
        self._each(_crop, numbers, *out, places)
        return out

    def pair(self, number: int) -> Pair:
        """Return the whole image and its mask."""
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
                    f"cannot read {' or '.join(self.paths[number])}: {error}; repair or replace it, then the same "
                    "command continues"
                ) from error


def _whole(image: np.ndarray, mask: np.ndarray, image_out: np.ndarray, mask_out: np.ndarray) -> None:
    height, width = mask.shape
    image_out[:height, :width], mask_out[:height, :width] = image, mask


def _crop(image: np.ndarray, mask: np.ndarray, image_out: np.ndarray, mask_out: np.ndarray, place: np.ndarray) -> None:
    """Write the crop at `place`; only what it shows is resized, the image bilinear, the mask by the nearest pixel."""
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
    """The masked images of one split: crops of image_size for training, whole images in frames for evaluation."""

    images: MaskedImages
    numbers: np.ndarray  # int64 [N], positions in `images`
    ids: np.ndarray  # str [N]
    checksums: np.ndarray  # int64 [N], of the masks
    image_size: int
    frame: tuple[int, int]  # (height, width)

    videos = None  # what a split of videos has here

    @property
    def size(self) -> int:
        return len(self.ids)

    def subset(self, positions: np.ndarray) -> "SegmentationSplit":
        own = {name: getattr(self, name)[positions] for name in ("numbers", "ids", "checksums")}
        return dataclasses.replace(self, **own)

    def image_sizes(self, positions: np.ndarray) -> np.ndarray:
        """Return the sizes of whole images, int32 [..., (width, height)]."""
        return self.images.sizes[self.numbers[positions]]

    def framed(self, positions: np.ndarray) -> Pair:
        return self.images.framed(self.numbers[positions], self.frame)

    def crops(self, positions: np.ndarray, places: np.ndarray) -> Pair:
        return self.images.crops(self.numbers[positions], places, self.image_size)

    @property
    def marks(self) -> np.ndarray:
        """Fingerprint of each label, int64 [N]: differs for other masks."""
        return self.checksums


def frame_of(sizes: np.ndarray) -> tuple[int, int]:
    """Return the (height, width) that holds all images of sizes [N, (w, h)]."""
    width, height = (-(-sizes.max(0) // STRIDE) * STRIDE).tolist()
    return height, width
