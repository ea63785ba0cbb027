"""Conversion of raw pixels to the values that a network was trained with."""

import numpy as np

from dico_tf.data.source import IMAGENET_MEAN, IMAGENET_STD
from dico_tf.errors import UserError

_RAW, _MIDDLE = 255.0, 127.5
_MEAN, _STD = (_RAW * np.array(values, np.float32) for values in (IMAGENET_MEAN, IMAGENET_STD))
PIXELS = {  # value of ?pixels -> function of raw float pixels
    "0..255": lambda x: x,
    "0..1": lambda x: x / np.float32(_RAW),
    "-1..1": lambda x: x / np.float32(_MIDDLE) - np.float32(1),
    "imagenet": lambda x: (x - _MEAN) / _STD,
}
OWN = "0..255"  # networks of dico_tf normalise images themselves


def check_pixels(pixels: str) -> str:
    """Return a value of ?pixels unchanged. Raises UserError unless it is a key of PIXELS."""
    if pixels not in PIXELS:
        raise UserError(f"?pixels={pixels} must be one of {', '.join(PIXELS)}")
    return pixels


def preprocess(images: np.ndarray, pixels: str, kind: np.dtype | type, scale: float = 0.0, zero: int = 0) -> np.ndarray:
    """Convert uint8 images [B, H, W, 3] to a network's input of dtype `kind`.

    A float input gets values in the range `pixels`. An integer input gets round(value / scale) + zero, clipped to the
    dtype; but with `pixels` "0..255", or `scale` 0, it gets the raw pixels, and int8 the raw pixels minus 128.

    Args:
        pixels: range of values that the network was trained with, a key of PIXELS.
        scale, zero: quantisation of an integer input; a float input ignores them.
    """
    kind = np.dtype(kind)
    if kind.kind not in "iu":
        return PIXELS[pixels](images.astype(np.float32)).astype(kind)
    low, high = np.iinfo(kind).min, np.iinfo(kind).max
    if pixels == OWN or not scale:
        return (images.astype(np.int64) + (low if kind.itemsize == 1 else 0)).astype(kind)
    levels = np.round(PIXELS[pixels](images.astype(np.float32)) / scale) + zero
    return levels.clip(low, high).astype(kind)
