"""Decoding image files into upright RGB squares or windows of one size, with Pillow."""

import concurrent.futures
import functools
import os
from collections.abc import Callable, Collection, Iterable
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageOps

from dico_tf.data.known_datasets import CIFAR_LARGEST

MARGIN = 1.15  # as published: an evaluation resizes the short side to int(1.15 size) pixels and cuts the centre
ENOUGH = 3  # a JPEG is decoded at reduced scale if its sides keep 3 image sizes: a window of 1/10 still has one
EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")
_ORIENTATION = 0x0112  # EXIF tag
_JPEG_END, _JPEG_TAIL = b"\xff\xd9", 1024  # a complete JPEG has this marker in its last bytes; cameras append some


def cores() -> int:
    """Return the number of cores this process may use, or all cores where the system does not tell (macOS)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def pool() -> concurrent.futures.ThreadPoolExecutor:
    """Return the process's pool of threads that decode images, one per core.

    Threads suffice, because Pillow releases the interpreter lock while it decodes and resizes.
    """
    return concurrent.futures.ThreadPoolExecutor(cores(), thread_name_prefix="images")


def progress(items: Iterable[Any], total: int | None, title: str, each: int = 1) -> Iterable[Any]:
    """Return an iterator over the items that shows a progress bar after two seconds, if stderr is a terminal.

    Args:
        total: number of items, if it is known.
        title: text before the bar.
        each: number of images that the bar counts per item.
    """
    from tqdm import tqdm

    return tqdm(items, total=total, desc=title, unit="img", unit_scale=each, leave=False, delay=2, disable=None)


def rgb(image: Image.Image) -> Image.Image:
    """Return an image upright, as 8-bit RGB, transparent parts on white; an animation gives its first frame."""
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
    """Return the short side to which an evaluation resizes an image before it cuts out the central `size` pixels.

    It is int(1.15 size), or `size` itself up to 64 pixels.
    """
    return int(MARGIN * size) if size > CIFAR_LARGEST else size


def whole(file: str | BinaryIO, least: int) -> Image.Image:
    """Return the whole image, upright and RGB.

    A JPEG is decoded at the smallest of the scales 1/1, 1/2, 1/4 and 1/8 at which both sides keep `least` pixels, other
    formats in full.
    """
    with Image.open(file) as image:
        image.draft(None, (least, least))
        return rgb(image)


def square(image: Image.Image, size: int, short: int) -> Image.Image:
    """Resize an image with antialiasing, and return its central square, size x size.

    If short > size, the short side becomes `short` pixels, bicubic, as by torchvision's Resize and CenterCrop.
    Otherwise the short side becomes `size` pixels, bilinear.
    """
    width, height = image.size
    side = min(width, height)
    if short <= size:
        left, top = (width - side) // 2, (height - side) // 2
        box = (left, top, left + side, top + side)
        return image.resize((size, size), Image.Resampling.BILINEAR, box=box)
    resized = [int(short * length / side) for length in image.size]  # not computed: the box does both steps
    low, scale = np.round((np.array(resized) - size) / 2), np.divide(image.size, resized)
    box = np.concatenate([low * scale, (low + size) * scale])
    return image.resize((size, size), Image.Resampling.BICUBIC, box=tuple(box.tolist()))


def window(image: Image.Image, size: int, place: np.ndarray, full: np.ndarray) -> Image.Image:
    """Return a window of the image, resized to size x size, bicubic and antialiased.

    Where the window reaches beyond the image, the resized image is mirrored at its edge, without repeating the
    outermost pixels.

    Args:
        place: (left, top, right, bottom) in pixels of the image at its full (width, height).
        full: that width and height; the image may have been decoded at a smaller scale.
    """
    sides = np.tile(image.size, 2)
    box = place * np.tile(np.divide(image.size, full), 2)
    beyond = np.minimum(box[:2], 0) + np.maximum(box[2:] - sides[2:], 0)
    shift = np.rint(size * beyond / (box[2:] - box[:2])).astype(int)
    box = np.clip(box - np.tile(np.where(shift, beyond, 0), 2), 0, sides)  # below half a pixel it was rounding
    low, high = np.floor(box[:2]), np.ceil(box[2:])
    part = image.crop((*low.astype(int).tolist(), *high.astype(int).tolist()))  # the filter must not read beyond it
    result = part.resize((size, size), Image.Resampling.BICUBIC, box=tuple((box - np.tile(low, 2)).tolist()))
    return _mirrored(result, shift) if shift.any() else result


def _mirrored(image: Image.Image, shift: np.ndarray) -> Image.Image:
    """Return an image whose pixel (x, y) is (x + shift[0], y + shift[1]) of this one, mirrored at the edges."""
    columns, rows = (
        (side - 1) - np.abs((side - 1) - np.abs(np.arange(side) + by))
        for side, by in zip(image.size, shift, strict=True)
    )
    return Image.fromarray(np.asarray(image)[rows[:, None], columns[None]])


def decode(file: str | BinaryIO, size: int, short: int) -> np.ndarray:
    """Decode a file and return its central square, as `square` cuts it: uint8 [size, size, 3].

    A file that cannot be read raises whatever Pillow raises.
    """
    return np.asarray(square(whole(file, _least(size, short)), size, short))


def decode_each(file: BinaryIO, views: Iterable[tuple[int, int]]) -> list[np.ndarray]:
    """Return the result of `decode` for each (size, short) of `views`.

    The file is decoded once, a JPEG once for each scale that is needed.
    """
    wholes: dict[tuple[int, int], Image.Image] = {}
    squares = []
    for size, short in views:
        file.seek(0)
        with Image.open(file) as image:
            least = _least(size, short)
            image.draft(None, (least, least))
            scaled = image.size
            wholes[scaled] = wholes[scaled] if scaled in wholes else rgb(image)
        squares.append(np.asarray(square(wholes[scaled], size, short)))
    return squares


def _least(size: int, short: int) -> int:
    """Return the pixels that both sides of a JPEG must keep when it is decoded for its central square, see `whole`."""
    return (2 if short <= size else ENOUGH) * size


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Return (width, height) after the rotation that EXIF gives."""
    width, height = image.size
    turned = image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)  # the four that swap width and height
    return (height, width) if turned else (width, height)


def check(path: str) -> tuple[int, int]:
    """Return the upright (width, height) of an image file.

    A file that is not a complete image raises whatever Pillow raises. A JPEG that has its end marker is not decoded, so
    that damage within it is not noticed.
    """
    with Image.open(path) as image:
        if image.format != "JPEG" or not _ends_as_jpeg(path):  # verify() does not notice a truncated JPEG
            image.load()
        return upright_size(image)


def _ends_as_jpeg(path: str) -> bool:
    with open(path, "rb") as file:
        file.seek(-min(_JPEG_TAIL, os.path.getsize(path)), os.SEEK_END)
        return _JPEG_END in file.read()


def tried(action: Callable[..., Any], *arguments: Any) -> Any:
    """Return what the action returns, or the exception it raises: Pillow's readers raise nearly any kind."""
    try:
        return action(*arguments)
    except Exception as error:
        return error


def check_all(paths: Collection[str]) -> dict[str, tuple[int, int] | Exception]:
    """Return {path: (width, height), or the exception of `check`}, with a progress bar."""
    results = pool().map(lambda path: tried(check, path), paths)
    return dict(zip(paths, progress(results, len(paths), "checking images"), strict=True))
