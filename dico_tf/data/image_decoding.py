"""Encoded pictures and what they become: upright RGB squares, or windows, of one size. Pillow only."""

import concurrent.futures
import functools
import os
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageOps

from dico_tf.data.known_datasets import CIFAR_LARGEST

MARGIN = 1.15  # the published test: the short side becomes int(1.15 size) pixels before the centre is cut out
ENOUGH = 3  # a JPEG is decoded smaller while its sides keep 3 image sizes: of a tenth of its area one remains
EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")
_ORIENTATION = 0x0112  # the number of this entry of EXIF
_JPEG_END, _JPEG_TAIL = b"\xff\xd9", 1024  # bytes of a tail in which a whole JPEG ends; cameras append a little


def cores() -> int:
    """Those this process may use; macOS does not say which."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def pool() -> concurrent.futures.ThreadPoolExecutor:
    """Pillow lets go of the interpreter while it decodes and resizes."""
    return concurrent.futures.ThreadPoolExecutor(cores(), thread_name_prefix="pictures")


def progress(items: Iterable[Any], total: int | None, title: str, each: int = 1) -> Iterable[Any]:
    """A bar on a terminal, for what takes longer than two seconds; an item stands for `each` pictures."""
    from tqdm import tqdm

    return tqdm(items, total=total, desc=title, unit="img", unit_scale=each, leave=False, delay=2, disable=None)


def rgb(image: Image.Image) -> Image.Image:
    """Upright, 8 bits, grey repeated, what is transparent on white; of an animation the first frame."""
    image.load()
    if image.getexif().get(_ORIENTATION, 1) != 1:  # or Pillow would copy it
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits of grey
        image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == "RGB" else image.convert("RGB")


def short_side(size: int) -> int:
    """Pixels of the short side of which the centre is cut out; small images have no margin."""
    return int(MARGIN * size) if size > CIFAR_LARGEST else size


def whole(file: str | BinaryIO, least: int) -> Image.Image:
    """Upright and RGB; a JPEG at the smallest of 1/1, 1/2, 1/4 and 1/8 of which both sides keep `least` pixels."""
    with Image.open(file) as image:
        image.draft(None, (least, least))
        return rgb(image)


def square(image: Image.Image, size: int, short: int) -> Image.Image:
    """The middle size x size of the picture whose short side is `short`; antialiased.

    With a margin as torchvision's Resize, bicubic, and CenterCrop; without one bilinear.
    """
    width, height = image.size
    side = min(width, height)
    if short <= size:
        left, top = (width - side) // 2, (height - side) // 2
        box = (left, top, left + side, top + side)
        return image.resize((size, size), Image.Resampling.BILINEAR, box=box)
    resized = [int(short * length / side) for length in image.size]  # never made: the box stands for both steps
    low, scale = np.round((np.array(resized) - size) / 2), np.divide(image.size, resized)
    box = np.concatenate([low * scale, (low + size) * scale])
    return image.resize((size, size), Image.Resampling.BICUBIC, box=tuple(box.tolist()))


def window(image: Image.Image, size: int, place: np.ndarray, full: np.ndarray) -> Image.Image:
    """(left, top, right, bottom) in pixels of the picture at its full (width, height); bicubic, antialiased.

    What lies outside of the picture mirrors it, without its outermost pixels, as it is once resized.
    """
    sides = np.tile(image.size, 2)
    box = place * np.tile(np.divide(image.size, full), 2)
    beyond = np.minimum(box[:2], 0) + np.maximum(box[2:] - sides[2:], 0)
    shift = np.rint(size * beyond / (box[2:] - box[:2])).astype(int)
    box = np.clip(box - np.tile(np.where(shift, beyond, 0), 2), 0, sides)  # without a shift it was rounding
    low, high = np.floor(box[:2]), np.ceil(box[2:])
    part = image.crop((*low.astype(int).tolist(), *high.astype(int).tolist()))  # the filter must not see beyond it
    found = part.resize((size, size), Image.Resampling.BICUBIC, box=tuple((box - np.tile(low, 2)).tolist()))
    return _mirrored(found, shift) if shift.any() else found


def _mirrored(image: Image.Image, shift: np.ndarray) -> Image.Image:
    """Pixel (x, y) shows (x + shift[0], y + shift[1]), mirrored at the edges."""
    columns, rows = (
        (side - 1) - np.abs((side - 1) - np.abs(np.arange(side) + by))
        for side, by in zip(image.size, shift, strict=True)
    )
    return Image.fromarray(np.asarray(image)[rows[:, None], columns[None]])


def decode(file: str | BinaryIO, size: int, short: int) -> np.ndarray:
    """uint8 [size, size, 3] as an evaluation sees it; raises whatever Pillow raises."""
    return np.asarray(square(whole(file, _least(size, short)), size, short))


def decode_each(file: BinaryIO, views: Iterable[tuple[int, int]]) -> list[np.ndarray]:
    """What `decode` makes for each (size, short); decoded once, or once for each scale that a JPEG is decoded at."""
    wholes: dict[tuple[int, int], Image.Image] = {}
    found = []
    for size, short in views:
        file.seek(0)
        with Image.open(file) as image:
            least = _least(size, short)
            image.draft(None, (least, least))
            scaled = image.size
            wholes[scaled] = wholes[scaled] if scaled in wholes else rgb(image)
        found.append(np.asarray(square(wholes[scaled], size, short)))
    return found


def _least(size: int, short: int) -> int:
    """Pixels that the sides of a decoded JPEG keep."""
    return (2 if short <= size else ENOUGH) * size


def upright_size(image: Image.Image) -> tuple[int, int]:
    """(width, height) once it stands upright."""
    width, height = image.size
    turned = image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)  # these lie on their side; more there are not
    return (height, width) if turned else (width, height)


def check(path: str) -> tuple[int, int]:
    """Upright (width, height); raises whatever Pillow raises where the file is not a whole picture."""
    with Image.open(path) as image:
        if image.format != "JPEG" or not _ends_as_jpeg(path):  # verify() finds no JPEG that was cut short
            image.load()
        return upright_size(image)


def _ends_as_jpeg(path: str) -> bool:
    with open(path, "rb") as file:
        file.seek(-min(_JPEG_TAIL, os.path.getsize(path)), os.SEEK_END)
        return _JPEG_END in file.read()


def tried(action: Callable[..., Any], *arguments: Any) -> Any:
    """What the action returns, or the exception it raised: Pillow's readers raise nearly any kind."""
    try:
        return action(*arguments)
    except Exception as error:
        return error
