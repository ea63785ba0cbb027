"""Limits on requests (bytes, pixels, images, and how many at the same time), and safe decoding of their images."""

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
    """The largest requests that a server accepts."""

    request_bytes: int = 16 * 2**20
    pixels: int = 25_000_000  # of an encoded image; decoding it takes about 100 MB
    batch: int = 64  # images per request
    concurrency: int = 64  # requests at the same time


def decode_image(content: bytes, size: int, short: int, limits: Limits) -> np.ndarray:
    """Decode a JPEG or PNG to uint8 [size, size, 3]: resized to the short side `short` and cropped, as in evaluation.

    The header is read first: an image with more than `limits.pixels` is refused before it is decoded. Raises EdgeError.
    """
    return decode_views(content, [(size, short)], limits)[0]


def decode_views(content: bytes, views: Sequence[tuple[int, int]], limits: Limits) -> list[np.ndarray]:
    """Decode a JPEG or PNG once; return what `decode_image` returns for each (size, short). Raises EdgeError."""
    pixels = image_decoding.tried(_pixels, content)
    if isinstance(pixels, Image.DecompressionBombError) or (isinstance(pixels, int) and pixels > limits.pixels):
        raise invalid(f"the image has more than {limits.pixels} pixels, the most this server decodes: send it smaller")
    if isinstance(pixels, Exception):
        raise invalid("the image bytes are neither JPEG nor PNG, or their header is damaged")
    decoded = image_decoding.tried(image_decoding.decode_each, io.BytesIO(content), views)
    if isinstance(decoded, Exception):
        raise invalid("the image cannot be decoded: its data is truncated or damaged")
    return decoded


def _pixels(content: bytes) -> int:
    with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
        return image.width * image.height


class ConcurrencyLimit:
    """A limit on the number of requests that are processed at the same time; further ones are refused."""

    def __init__(self, most: int):
        self.most = most
        self.active = 0

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Count one request as active. Raises EdgeError RESOURCE_EXHAUSTED if the limit is reached."""
        if self.active >= self.most:
            raise EdgeError(
                "RESOURCE_EXHAUSTED", f"{self.most} requests are being processed, the most allowed: try again later"
            )
        self.active += 1
        try:
            yield
        finally:
            self.active -= 1
