"""Videos, and the clips cut out of them: every rate-th frame from some frame on, at one place of the image."""

import dataclasses
import functools
import logging
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from dico_tf.data.known_datasets import CIFAR_LARGEST

MIDDLE = -1  # as the first frame of a clip: take the clip in the middle of its video, as a test with one clip does


def short_side(size: int) -> int:
    """Return the short side in pixels at which clips of `size` are tested: 182, 256, 356 for 160, 224, 312 (X3D)."""
    return size * 8 // 7 if size > CIFAR_LARGEST else size


class Frames(Protocol):
    """Numbered single images: decoded on demand, or drawn."""

    image_size: int
    sizes: np.ndarray  # int32 [M, (width, height)]

    def squares(self, numbers: np.ndarray) -> np.ndarray:
        """Return central squares, uint8 [..., size, size, 3]."""

    def windows(self, numbers: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Return windows, uint8 [..., size, size, 3], at places [..., (left, top, right, bottom)] of images [...]."""

    def at(self, image_size: int, short_side: int) -> "Frames":
        """Return the same images as squares of another size."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TestClip:
    """The part of a video that a test uses: clip number `clip` of `clips`, and crop number `crop` of `crops`."""

    clip: int = 0
    clips: int = 1
    crop: int = 0
    crops: int = 1


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Videos:
    """Videos from which clips of `count` frames are cut, taking every `rate`-th frame.

    Video n has the frames firsts[n] .. firsts[n + 1] - 1. A video that is too short for a clip is repeated.
    """

    frames: Frames
    firsts: np.ndarray  # int64 [N + 1]
    count: int
    rate: int
    part: TestClip = TestClip()

    @functools.cached_property
    def lengths(self) -> np.ndarray:
        return np.diff(self.firsts)

    @property
    def span(self) -> int:
        """Number of frames from the first to the last of a clip."""
        return (self.count - 1) * self.rate + 1

    @functools.cached_property
    def starts(self) -> np.ndarray:
        """Number of possible first frames of a clip of each video, int64 [N]."""
        return np.maximum(self.lengths - self.span + 1, 1)

    @property
    def image_shape(self) -> tuple[int, int, int, int]:
        return (self.count, self.frames.image_size, self.frames.image_size, 3)

    @functools.cached_property
    def sizes(self) -> np.ndarray:
        """int32 [N, (width, height, number of possible first frames)]."""
        return np.concatenate([self.frames.sizes[self.firsts[:-1]], self.starts[:, None]], axis=1).astype(np.int32)

    def squares(self, numbers: np.ndarray) -> np.ndarray:
        """Return the clips of a test, uint8 [..., T, size, size, 3]."""
        part, last_start = self.part, self.starts[numbers] - 1
        share = 0.5 if part.clips == 1 else part.clip / (part.clips - 1)
        frames = self._frames_of(numbers, np.floor(last_start * share + 0.5).astype(np.int64))  # one clip: starts // 2
        if part.crops == 1:
            return self.frames.squares(frames)
        places = _along(self.frames.sizes[frames], part.crop / (part.crops - 1))
        return self.frames.windows(frames, places)

    def windows(self, numbers: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Return clips for training, uint8 [B, S, T, size, size, 3], of videos `numbers` [B] or [B, S].

        Args:
            places: [B, S, (left, top, right, bottom, first frame)]. A window without area means the central square, a
                first frame of -1 the clip in the middle.
        """
        numbers = np.broadcast_to(numbers.reshape(len(numbers), -1), places.shape[:2])
        start = np.rint(places[..., 4]).astype(np.int64)
        start = np.where(start == MIDDLE, self.starts[numbers] // 2, start)
        frames = self._frames_of(numbers, start)
        return self.frames.windows(frames, np.repeat(places[:, :, None, :4], self.count, axis=2))

    def _frames_of(self, numbers: np.ndarray, start: np.ndarray) -> np.ndarray:
        """Return the numbers of the clips' frames, int64 [..., T]."""
        steps = start[..., None] + self.rate * np.arange(self.count)
        return self.firsts[numbers][..., None] + steps % self.lengths[numbers][..., None]

    def views(self, clips: int, crops: int) -> list["Videos"]:
        """Return these videos once for each of clips x crops parts of a test.

        Three crops are as large as the resized short side; a single one has the size of the training.
        """
        size = self.frames.image_size
        frames = self.frames if crops == 1 else self.frames.at(short_side(size), short_side(size))
        parts = [TestClip(clip=i, clips=clips, crop=j, crops=crops) for i in range(clips) for j in range(crops)]
        return [dataclasses.replace(self, frames=frames, part=part) for part in parts]


def _along(sizes: np.ndarray, share: float) -> np.ndarray:
    """Return squares [..., 4] as wide as the short side, placed at a share 0..1 of the long side."""
    side = sizes.min(axis=-1, keepdims=True)
    low = (sizes - side) * share
    return np.concatenate([low, low + side], axis=-1).astype(np.float32)


def videos(frames: Frames, lengths: Sequence[int], count: int, rate: int, title: str) -> Videos:
    """Return videos whose frames follow one another, video after video; log how many are shorter than a clip."""
    result = Videos(
        frames=frames, firsts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), count=count, rate=rate
    )
    short = int((result.lengths < result.span).sum())
    if short:
        logging.getLogger(__name__).warning(
            "%d of %d videos of %s have fewer than the %d frames that %d frames at rate %d span: they are repeated",
            short, len(result.lengths), title, result.span, count, rate,
        )  # fmt: skip
    return result
