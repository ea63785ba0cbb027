"""Right answers as text, for result files. Their comparison is in `dico_tf/compare/paired.py`."""

import base64

import numpy as np


def pack(right: np.ndarray) -> str:
    """Return bool [N] as text, 4 characters for 24 images."""
    return base64.b64encode(np.packbits(right)).decode("ascii")


def unpack(text: str, images: int) -> np.ndarray:
    """Return the bool [images] that `pack` was given."""
    return np.unpackbits(np.frombuffer(base64.b64decode(text), np.uint8), count=images).astype(bool)
