"""Images of a split at the size that one member takes, and a fingerprint of the split's stored images."""

import concurrent.futures
import hashlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

from dico_tf.data import image_decoding
from dico_tf.data.source import Source, Split

_BATCH, _PIXELS = 256, 2**20  # largest number of images, and of pixels, in a batch


class ImageBatches:
    """The images of a split as squares of one member's size, decoded from files or resampled in memory."""

    def __init__(self, split: Split, size: int, short_side: int) -> None:
        """Take a split; images are resized to `short_side`, then the central square of `size` pixels is cut out.

        With a short side of `size` or less, the whole central square is resized to `size`.
        """
        self._split, self._size, self._short = split, size, short_side
        self._lazy_images = (
            split.lazy_images.at(size, short_side, cached=False) if split.lazy_images is not None else None
        )

    def take(self, positions: np.ndarray) -> np.ndarray:
        """Return the images at these positions of the split as uint8 [N, size, size, 3]."""
        if self._lazy_images is not None:
            return self._lazy_images.squares(self._split.numbers[positions])
        images = self._split.images[positions]
        if images.shape[1:3] == (self._size, self._size) and self._short <= self._size:
            return images
        return np.stack([self._resampled(image) for image in images])

    def _resampled(self, image: np.ndarray) -> np.ndarray:
        return np.asarray(image_decoding.square(Image.fromarray(image), self._size, self._short))

    def batches(self) -> Iterator[np.ndarray]:
        """Yield all images in batches uint8 [B, size, size, 3], in order. A thread prepares the next batch."""
        step = max(1, min(_BATCH, _PIXELS // self._size**2))
        parts = [np.arange(n, min(n + step, self._split.size)) for n in range(0, self._split.size, step)]
        with concurrent.futures.ThreadPoolExecutor(1) as thread:
            upcoming = thread.submit(self.take, parts[0])
            for part in [*parts[1:], None]:
                images = upcoming.result()
                if part is not None:
                    upcoming = thread.submit(self.take, part)
                yield images


def fingerprint(source: Source, split: Split) -> str:
    """Return a hash of the dataset's name and classes, and of each image's id, label and pixels.

    Images that are decoded on demand are not read. In place of their pixels it takes their width and height, and the
    size and modification time of an image's own file, or the place or length of an image within other files.
    """
    digest = hashlib.sha256(repr((source.name, source.class_names)).encode())
    digest.update(split.labels.astype("<i8").tobytes())
    digest.update("\n".join(split.ids).encode("utf-8", "surrogateescape"))
    if split.lazy_images is None:
        digest.update(repr(split.images.shape).encode() + np.ascontiguousarray(split.images).tobytes())
    else:
        digest.update("\n".join(split.lazy_images.stamp(number) for number in split.numbers.tolist()).encode())
    return digest.hexdigest()[:32]
