"""Picture files and what they become: upright RGB squares of one size. Pillow only."""

import concurrent.futures
import functools
import os
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from dico_tf.errors import UserError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")
_JPEG_END, _JPEG_TAIL = b"\xff\xd9", 1024  # bytes of a tail in which a whole JPEG ends; cameras append a little


@functools.cache
def pool() -> concurrent.futures.ThreadPoolExecutor:
    """Pillow lets go of the interpreter while it decodes and resizes."""
    return concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="pictures")


def progress(items: Iterable[Any], total: int, title: str) -> Iterable[Any]:
    """A bar on a terminal, for what takes longer than two seconds."""
    from tqdm import tqdm

    return tqdm(items, total=total, desc=title, unit="img", unit_scale=True, leave=False, delay=2, disable=None)


def rgb(image: Image.Image) -> Image.Image:
    """Upright, 8 bits, grey repeated, what is transparent on white; of an animation the first frame."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits of grey
        image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def square(image: Image.Image, size: int) -> np.ndarray:
    """Short side to `size`, bilinear with antialiasing, then the centre: uint8 [size, size, 3]."""
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    box = (left, top, left + side, top + side)
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box=box))


def from_array(array: np.ndarray, size: int) -> np.ndarray:
    """uint8 [h, w, 1, 3 or 4] -> [size, size, 3]."""
    return square(rgb(Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)), size)


def decode(path: str, size: int) -> np.ndarray:
    """uint8 [size, size, 3] of one file; raises whatever Pillow raises."""
    with Image.open(path) as image:
        image.draft(None, (2 * size, 2 * size))  # a large JPEG is decoded at a half, quarter or eighth
        return square(rgb(image), size)


def check(path: str) -> tuple[int, int]:
    """Upright (width, height); raises whatever Pillow raises where the file is not a whole picture."""
    with Image.open(path) as image:
        if image.format != "JPEG" or not _ends_as_jpeg(path):  # verify() finds no JPEG that was cut short
            image.load()
        width, height = image.size
        turned = image.getexif().get(0x0112, 1) >= 5  # EXIF orientation: 5 to 8 lie on their side
    return (height, width) if turned else (width, height)


def _ends_as_jpeg(path: str) -> bool:
    with open(path, "rb") as file:
        file.seek(-min(_JPEG_TAIL, os.path.getsize(path)), os.SEEK_END)
        return _JPEG_END in file.read()


def tried(action: Callable[..., Any], path: str, *rest: Any) -> Any:
    """What the action returns, or the exception it raised: Pillow's readers raise nearly any kind."""
    try:
        return action(path, *rest)
    except Exception as error:
        return error


def read(paths: np.ndarray, size: int) -> np.ndarray:
    """uint8 [..., size, size, 3] for paths of any shape."""
    found = list(pool().map(lambda path: tried(decode, path, size), paths.ravel().tolist()))
    for path, picture in zip(paths.ravel(), found, strict=True):
        if isinstance(picture, Exception):
            raise UserError(f"{path} could be read when the run began and cannot be now: {picture}")
    return np.stack(found).reshape(*paths.shape, size, size, 3) if found else np.empty((0, size, size, 3), np.uint8)
