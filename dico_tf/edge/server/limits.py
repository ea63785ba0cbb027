"""What a stranger may ask of this process: how much, how large a picture, with which token, from where."""

import dataclasses
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from PIL import Image

from dico_tf.data import image_decoding
from dico_tf.edge.errors import EdgeError, invalid

_FORMATS = ("JPEG", "PNG")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    request_bytes: int = 16 * 2**20
    pixels: int = 25_000_000  # of a picture as it is stored: about 100 MB while it is decoded
    batch: int = 64  # images of one request
    concurrency: int = 64  # requests at once


def decode_image(content: bytes, size: int, short: int, limits: Limits) -> np.ndarray:
    """uint8 [size, size, 3] of a JPEG or PNG, as training's evaluation sees it; its header alone is read first."""
    return decode_views(content, [(size, short)], limits)[0]


def decode_views(content: bytes, views: Sequence[tuple[int, int]], limits: Limits) -> list[np.ndarray]:
    """`decode_image` for each (size, short) of the views, decoded once."""
    opened = image_decoding.tried(_pixels, content)
    if isinstance(opened, Image.DecompressionBombError) or (isinstance(opened, int) and opened > limits.pixels):
        raise invalid(f"the image has more than {limits.pixels} pixels, which is all that is decoded here: shrink it")
    if isinstance(opened, Exception):
        raise invalid("the image bytes are no JPEG and no PNG")
    decoded = image_decoding.tried(image_decoding.decode_each, io.BytesIO(content), views)
    if isinstance(decoded, Exception):
        raise invalid("the image cannot be decoded: it is cut short or damaged")
    return decoded


def _pixels(content: bytes) -> int:
    with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
        return image.width * image.height


class ConcurrencyLimit:
    """Lets so many requests in at once, whichever way they come."""

    def __init__(self, most: int):
        self.most = most
        self.inside = 0

    @contextmanager
    def entered(self) -> Iterator[None]:
        if self.inside >= self.most:
            raise EdgeError("RESOURCE_EXHAUSTED", f"{self.most} requests are being answered already: ask again later")
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1
