"""Videos, and the clips cut out of them: every rate-th frame from some frame on, at one place of the picture."""

import dataclasses
import functools
import logging
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from dico_tf.data.known_datasets import CIFAR_LARGEST

MIDDLE = -1  # in the place of a first frame: the clip in the middle of its film, as one clip of a test is


def short_side(size: int) -> int:
    """Pixels of the short side at which clips of `size` are tested: 182, 256, 356 of 160, 224, 312, as published."""
    return size * 8 // 7 if size > CIFAR_LARGEST else size


class Frames(Protocol):
    """Single pictures by number: an LazyImages, or what draws them."""

    image_size: int
    sizes: np.ndarray  # int32 [M, (width, height)]

    def squares(self, numbers: np.ndarray) -> np.ndarray:
        """uint8 [..., size, size, 3]."""

    def windows(self, numbers: np.ndarray, places: np.ndarray) -> np.ndarray:
        """uint8 [..., size, size, 3] of numbers [...] and places [..., (left, top, right, bottom)]."""

    def at(self, image_size: int, short_side: int) -> "Frames":
        """The same pictures as squares of another size."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TestClip:
    """Which of a film's clips a test sees, and which part of it: `clip` of `clips`, `crop` of `crops`."""

    clip: int = 0
    clips: int = 1
    crop: int = 0
    crops: int = 1


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Videos:
    """Film n has the frames firsts[n] .. firsts[n + 1] - 1; a clip is `count` of them, every `rate`-th.

    A film that is too short for a clip begins again after its end.
    """

    frames: Frames
    firsts: np.ndarray  # int64 [N + 1]
    count: int
    rate: int
    seen: TestClip = TestClip()

    @functools.cached_property
    def lengths(self) -> np.ndarray:
        return np.diff(self.firsts)

    @property
    def span(self) -> int:
        """Frames from the first to the last of a clip."""
        return (self.count - 1) * self.rate + 1

    @functools.cached_property
    def starts(self) -> np.ndarray:
        """int64 [N]: how many frames a clip may begin with."""
        return np.maximum(self.lengths - self.span + 1, 1)

    @property
    def image_shape(self) -> tuple[int, int, int, int]:
        return (self.count, self.frames.image_size, self.frames.image_size, 3)

    @functools.cached_property
    def sizes(self) -> np.ndarray:
        """int32 [N, (width, height, first frames to choose from)]."""
        return np.concatenate([self.frames.sizes[self.firsts[:-1]], self.starts[:, None]], axis=1).astype(np.int32)

    def squares(self, numbers: np.ndarray) -> np.ndarray:
        """uint8 [..., T, size, size, 3] as a test sees them."""
        seen, room = self.seen, self.starts[numbers] - 1
        share = 0.5 if seen.clips == 1 else seen.clip / (seen.clips - 1)
        picked = self._picked(numbers, np.floor(room * share + 0.5).astype(np.int64))  # of one clip: starts // 2
        if seen.crops == 1:
            return self.frames.squares(picked)
        places = _along(self.frames.sizes[picked], seen.crop / (seen.crops - 1))
        return self.frames.windows(picked, places)

    def windows(self, numbers: np.ndarray, places: np.ndarray) -> np.ndarray:
        """uint8 [B, S, T, size, size, 3] of numbers [B] or [B, S] and places [B, S, (a window, first frame)].

        A window without area is the test's square, a first frame of -1 the one in the middle.
        """
        numbers = np.broadcast_to(numbers.reshape(len(numbers), -1), places.shape[:2])
        start = np.rint(places[..., 4]).astype(np.int64)
        start = np.where(start == MIDDLE, self.starts[numbers] // 2, start)
        picked = self._picked(numbers, start)
        return self.frames.windows(picked, np.repeat(places[:, :, None, :4], self.count, axis=2))

    def _picked(self, numbers: np.ndarray, start: np.ndarray) -> np.ndarray:
        """int64 [..., T]: numbers of the clips' frames."""
        steps = start[..., None] + self.rate * np.arange(self.count)
        return self.firsts[numbers][..., None] + steps % self.lengths[numbers][..., None]

    def views(self, clips: int, crops: int) -> list["Videos"]:
        """What a test sees one after another; three crops are as large as the short side, one is the training's."""
        size = self.frames.image_size
        frames = self.frames if crops == 1 else self.frames.at(short_side(size), short_side(size))
        seen = [TestClip(clip=i, clips=clips, crop=j, crops=crops) for i in range(clips) for j in range(crops)]
        return [dataclasses.replace(self, frames=frames, seen=one) for one in seen]


def _along(sizes: np.ndarray, share: float) -> np.ndarray:
    """Squares [..., 4] of the short side, that share of the way along the long one."""
    side = sizes.min(axis=-1, keepdims=True)
    low = (sizes - side) * share
    return np.concatenate([low, low + side], axis=-1).astype(np.float32)


def videos(frames: Frames, lengths: Sequence[int], count: int, rate: int, title: str) -> Videos:
    """Of frames that stand one film after another; says how many films are too short."""
    found = Videos(
        frames=frames, firsts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), count=count, rate=rate
    )
    short = int((found.lengths < found.span).sum())
    if short:
        logging.getLogger(__name__).warning(
            "%d of %d films of %s have fewer than the %d frames that %d frames at rate %d span: these begin again",
            short, len(found.lengths), title, found.span, count, rate,
        )  # fmt: skip
    return found
