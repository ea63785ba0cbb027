"""Masks: pictures whose pixels are class numbers, in grey or by a palette."""

import dataclasses
import zlib

import numpy as np
from PIL import Image

VOID = 255  # of every mask once it is read, whatever its file says
_GREY = ("1", "L", "P")


def read(path: str, void: int) -> np.ndarray:
    """uint8 [h, w] with VOID where the file has `void`; raises ValueError where it is no mask."""
    values = _values(path)
    return values if void in (VOID, -1) else np.where(values == void, np.uint8(VOID), values)


def _values(path: str) -> np.ndarray:
    with Image.open(path) as image:
        image.load()
        if image.mode not in _GREY and not image.mode.startswith("I"):
            raise ValueError(f"its pixels are {image.mode}, not class numbers: save masks in grey or with a palette")
        values = np.asarray(image)
    if values.max(initial=0) > 255 or values.min(initial=0) < 0:
        raise ValueError(f"it has values from {values.min()} to {values.max()}: classes are 0 to 254")
    return values.astype(np.uint8)


@dataclasses.dataclass(frozen=True)
class Facts:
    size: tuple[int, int]  # (width, height)
    highest: int  # class; -1 where all is void
    checksum: int  # of the class numbers


def facts(path: str, void: int) -> Facts:
    values = _values(path)
    counts = np.bincount(values.ravel(), minlength=256)
    if void >= 0:
        counts[void] = 0
    found = np.flatnonzero(counts)
    return Facts(values.shape[::-1], int(found[-1]) if len(found) else -1, zlib.crc32(values.tobytes()))
