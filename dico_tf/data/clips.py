"""Videos, and the clips cut out of them: `count` frames, every `rate`-th of a video, all cut at the same window."""

import dataclasses
import functools
import logging
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from dico_tf.data.known_datasets import CIFAR_LARGEST

MIDDLE = -1  # as the first frame of a clip: take the clip in the middle of its video, as a test with one clip does


def short_side(size: int) -> int:
    """Return the short side to which a test resizes videos before it cuts clips of `size` pixels.

    It is 8/7 size, as for X3D: 182, 256, 356 for 160, 224, 312. Up to 64 pixels it is `size` itself.
    """
    return size * 8 // 7 if size > CIFAR_LARGEST else size


class Frames(Protocol):
    """The frames of videos as numbered images, decoded or drawn on demand."""

    image_size: int
    sizes: np.ndarray  # int32 [M, (width, height)]

    def squares(self, numbers: np.ndarray) -> np.ndarray:
        """Return the central squares of the frames `numbers` [...]: uint8 [..., size, size, 3]."""

    def windows(self, numbers: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Return one window of each frame `numbers` [...], resized: uint8 [..., size, size, 3].

        Args:
            places: the windows, [..., (left, top, right, bottom)] in pixels of the frame.
        """

    def at(self, image_size: int, short_side: int) -> "Frames":
        """Return the same frames as squares of another size, cut out after the short side is resized."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TestClip:
    """The part of a video that a test uses: clip `clip` of `clips` and crop `crop` of `crops`, counted from 0."""

    clip: int = 0
    clips: int = 1
    crop: int = 0
    crops: int = 1


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Videos:
    """Videos from which clips of `count` frames are cut, taking every `rate`-th frame.

    Video n has the frames firsts[n] .. firsts[n + 1] - 1. In the clips of a video that is too short, its frames are
    repeated from the first. `part` says which clip and which crop `squares` returns.
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
        """Number of a video's frames from the first to the last frame of a clip, both included."""
        return (self.count - 1) * self.rate + 1

    @functools.cached_property
    def starts(self) -> np.ndarray:
        """Number of possible first frames of a clip of each video, at least 1: int64 [N]."""
        return np.maximum(self.lengths - self.span + 1, 1)

    @property
    def image_shape(self) -> tuple[int, int, int, int]:
        return (self.count, self.frames.image_size, self.frames.image_size, 3)

    @functools.cached_property
    def sizes(self) -> np.ndarray:
        """Sizes of the videos, int32 [N, (width, height, number of possible first frames of a clip)]."""
        return np.concatenate([self.frames.sizes[self.firsts[:-1]], self.starts[:, None]], axis=1).astype(np.int32)

    def squares(self, numbers: np.ndarray) -> np.ndarray:
        """Return one clip of each of the videos `numbers` [...]: uint8 [..., T, size, size, 3].

        `part` says which clip, and which square crop of its frames.
        """
        part, last_start = self.part, self.starts[numbers] - 1
        share = 0.5 if part.clips == 1 else part.clip / (part.clips - 1)
        frames = self._frames_of(numbers, np.floor(last_start * share + 0.5).astype(np.int64))  # one clip: starts // 2
        if part.crops == 1:
            return self.frames.squares(frames)
        places = _along(self.frames.sizes[frames], part.crop / (part.crops - 1))
        return self.frames.windows(frames, places)

    def windows(self, numbers: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Return clips for training, uint8 [B, S, T, size, size, 3].

        Args:
            numbers: videos, [B] (S clips of each) or [B, S] (one clip of each).
            places: [B, S, (left, top, right, bottom, first frame)], the window in pixels of the frame. right <= left
                means the central square, a first frame of -1 the clip in the middle.
        """
        numbers = np.broadcast_to(numbers.reshape(len(numbers), -1), places.shape[:2])
        start = np.rint(places[..., 4]).astype(np.int64)
        start = np.where(start == MIDDLE, self.starts[numbers] // 2, start)
        frames = self._frames_of(numbers, start)
        return self.frames.windows(frames, np.repeat(places[:, :, None, :4], self.count, axis=2))

    def _frames_of(self, numbers: np.ndarray, start: np.ndarray) -> np.ndarray:
        """Return the numbers in `frames` of one clip per video: int64 [..., T].

        Args:
            numbers: the videos, [...].
            start: each clip's first frame within its video, [...].
        """
        steps = start[..., None] + self.rate * np.arange(self.count)
        return self.firsts[numbers][..., None] + steps % self.lengths[numbers][..., None]

    def views(self, clips: int, crops: int) -> list["Videos"]:
        """Return clips x crops copies of these videos, one for each clip and each crop of a test.

        A single clip lies in the middle; several are spread evenly from the first frame to the last. A single crop is
        the central square, `image_size` pixels wide. Several are as wide as the whole short side, which is resized to
        `short_side(image_size)` pixels, and are spread evenly along the long side.
        """
        size = self.frames.image_size
        frames = self.frames if crops == 1 else self.frames.at(short_side(size), short_side(size))
        parts = [TestClip(clip=i, clips=clips, crop=j, crops=crops) for i in range(clips) for j in range(crops)]
        return [dataclasses.replace(self, frames=frames, part=part) for part in parts]


def _along(sizes: np.ndarray, share: float) -> np.ndarray:
    """Return squares [..., (left, top, right, bottom)] as wide as the short side of frames.

    Args:
        sizes: of the frames, [..., (width, height)].
        share: place along the long side, from 0 (left or top) to 1 (right or bottom).
    """
    side = sizes.min(axis=-1, keepdims=True)
    low = (sizes - side) * share
    return np.concatenate([low, low + side], axis=-1).astype(np.float32)


def videos(frames: Frames, lengths: Sequence[int], count: int, rate: int, title: str) -> Videos:
    """Return `Videos` made of `frames`: video n has lengths[n] frames, and in `frames` one video follows another.

    Args:
        count: frames of a clip.
        rate: every rate-th frame of a video is one of the clip.
        title: name of the dataset in the warning that says how many videos are shorter than a clip.
    """
    result = Videos(
        frames=frames, firsts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), count=count, rate=rate
    )
    short = int((result.lengths < result.span).sum())
    if short:
        logging.getLogger(__name__).warning(
            "%d of %d videos of %s have fewer than %d frames, which a clip of %d frames with --frame_rate=%d spans: in "
            "its clips, such a video begins again after its last frame",
            short, len(result.lengths), title, result.span, count, rate,
        )  # fmt: skip
    return result
