"""Raw pixels made into the numbers that networks from elsewhere expect."""

import numpy as np

from dico_tf.data.source import IMAGENET_MEAN, IMAGENET_STD
from dico_tf.errors import UserError

_RAW, _MIDDLE = 255.0, 127.5
_MEAN, _STD = (_RAW * np.array(values, np.float32) for values in (IMAGENET_MEAN, IMAGENET_STD))
PIXELS = {  # range -> x of raw pixels
    "0..255": lambda x: x,
    "0..1": lambda x: x / np.float32(_RAW),
    "-1..1": lambda x: x / np.float32(_MIDDLE) - np.float32(1),
    "imagenet": lambda x: (x - _MEAN) / _STD,
}
OWN = "0..255"  # every network made here normalises within


def check_pixels(pixels: str) -> str:
    if pixels not in PIXELS:
        raise UserError(f"?pixels={pixels} is none of {', '.join(PIXELS)}")
    return pixels


def preprocess(images: np.ndarray, pixels: str, kind: np.dtype | type, scale: float = 0.0, zero: int = 0) -> np.ndarray:
    """uint8 [B, H, W, 3] as numbers of this kind; whole ones by their scale and zero, or raw where no range was asked.

    Quantised inputs span the range the network was trained with, so that level 0 stands for a pixel of 0.
    """
    kind = np.dtype(kind)
    if kind.kind not in "iu":
        return PIXELS[pixels](images.astype(np.float32)).astype(kind)
    low, high = np.iinfo(kind).min, np.iinfo(kind).max
    if pixels == OWN or not scale:
        return (images.astype(np.int64) + (low if kind.itemsize == 1 else 0)).astype(kind)
    levels = np.round(PIXELS[pixels](images.astype(np.float32)) / scale) + zero
    return levels.clip(low, high).astype(kind)
