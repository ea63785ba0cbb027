"""Handwritten digits that move, turn, grow or shrink: a video dataset that needs no download.

The class is how the digit moves. Classes come in opposite pairs: played backwards, a video of one class is a video of
the other, and a video starts at any point of the motion. So nobody can tell a class from its opposite by one frame.
"""

import functools
import math
from typing import Any

import numpy as np
from PIL import Image

from dico_tf.config import Data
from dico_tf.data import clips, image_decoding, memory_budget
from dico_tf.data.memory_budget import MemoryBudget
from dico_tf.data.source import Source, Split
from dico_tf.data.splits import stratified
from dico_tf.data.video_folder import MEAN, STD

CLASSES = ("right", "left", "down", "up", "clockwise", "counterclockwise", "growing", "shrinking")
FRAMES = 24  # of a video
VIDEOS = {"train": 960, "test": 240}
SIZE = 32  # pixels, by default
SET_SEED = 0  # not the run's: every run learns from and is tested on the same videos
SPEED = (0.02, 0.05)  # share of a full motion per frame
SCALE = (0.35, 0.9)  # side of the digit as a share of the image's

_STREAM = 3  # of Philox; epoch orders and held-out images use 1 and 2 (epoch_order.py)
_SPRITE = 32  # pixels of a digit before it is placed; the originals have 8
_DRAWS = ("speed", "phase", "x", "y", "angle", "scale", "digit", "red", "green", "blue", "ground")


def load(data: Data, seed: int) -> Source:
    """Return the moving digits: 960 training and 240 test videos of 24 frames, the same for every seed."""
    size = data.image_size or SIZE
    return Source(
        name="moving",
        class_names=CLASSES,
        image_size=size,
        splits={part: _split(part, size, data.frames, data.frame_rate) for part in VIDEOS},
        mean=MEAN,
        std=STD,
        short_side=size,
    )


def _split(part: str, size: int, count: int, rate: int) -> Split:
    number = VIDEOS[part]
    labels = np.arange(number) % len(CLASSES)
    frames = DrawnFrames(facts(part), size, MemoryBudget(memory_budget.limit()))
    return Split(
        labels=labels,
        ids=[f"{part}_{n:04d}" for n in range(number)],
        lazy_images=clips.videos(frames, [FRAMES] * number, count, rate, "moving"),
    )


@functools.cache
def digits(part: str) -> np.ndarray:
    """Return the digits of "train" or "test", uint8 [M, 32, 32], white on black. No digit is in both."""
    from sklearn.datasets import load_digits

    originals = load_digits()
    train, test = stratified(originals.target, 0.2, SET_SEED)
    grey = np.round(originals.images[train if part == "train" else test] * (255 / 16)).astype(np.uint8)
    return np.stack([Image.fromarray(digit).resize((_SPRITE,) * 2, Image.Resampling.BICUBIC) for digit in grey])


def facts(part: str) -> dict[str, np.ndarray]:
    """Return the values that define the N videos of "train" or "test".

    Returns:
        Random numbers U(0, 1) [N] for each name of _DRAWS, "class" int64 [N], and "digits" uint8 [M, 32, 32], the
        images from which each video takes one.
    """
    number = VIDEOS[part]
    source = np.random.Philox(np.random.SeedSequence((_STREAM, SET_SEED, list(VIDEOS).index(part))))
    draws = (source.random_raw(number * len(_DRAWS)) >> np.uint64(11)) * 2.0**-53
    columns = draws.reshape(len(_DRAWS), number)
    return {
        **dict(zip(_DRAWS, columns, strict=True)),
        "class": np.arange(number) % len(CLASSES),
        "digits": digits(part),
    }


def state(video: dict[str, Any], frame: int) -> tuple[float, float, float, float]:
    """Return (x, y, angle, scale) of the digit in a frame of a video, given as `DrawnFrames.video` returns it.

    x and y are its centre and scale is its side, all as shares of the image's side; the angle is in radians.
    """
    kind, backwards = divmod(int(video["class"]), 2)
    speed = SPEED[0] + (SPEED[1] - SPEED[0]) * video["speed"]
    progress = video["phase"] + (-speed if backwards else speed) * frame
    progress -= math.floor(progress)  # 0..1: the motion repeats
    x, y = (0.35 + 0.3 * video[name] for name in ("x", "y"))
    angle, scale = 2 * math.pi * video["angle"], 0.45 + 0.25 * video["scale"]
    across = -0.25 + 1.5 * progress  # from outside of the image to its other side
    if kind == 0:
        return across, y, angle, scale
    if kind == 1:
        return x, across, angle, scale
    if kind == 2:
        return x, y, 2 * math.pi * progress, scale
    return x, y, angle, SCALE[0] * (SCALE[1] / SCALE[0]) ** progress


def draw(video: dict[str, Any], frame: int, size: int) -> np.ndarray:
    """Draw one frame of a video, given as `DrawnFrames.video` returns it: uint8 [size, size, 3]."""
    x, y, angle, scale = state(video, frame)
    step = _SPRITE / (scale * size)  # pixels of the digit per pixel of the image
    a, b = step * math.cos(angle), step * math.sin(angle)
    middle = _SPRITE / 2
    matrix = (a, b, middle - size * (a * x + b * y), -b, a, middle - size * (a * y - b * x))
    digit = Image.fromarray(video["digit"]).transform(
        (size, size), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
    )
    share = np.asarray(digit, np.float32)[:, :, None] / 255
    ground = np.full(3, 90 * video["ground"], np.float32)
    colour = 130 + 125 * np.array([video[name] for name in ("red", "green", "blue")], np.float32)
    return np.rint(ground + share * (colour - ground)).astype(np.uint8)


class DrawnFrames:
    """Frames of the moving digits, drawn on demand and cached within a memory budget."""

    def __init__(self, facts: dict[str, np.ndarray], image_size: int, budget: MemoryBudget) -> None:
        self._facts, self.image_size, self._budget, self._cache = facts, image_size, budget, {}
        self.sizes = np.full((FRAMES * len(facts["class"]), 2), image_size, np.int32)

    def at(self, image_size: int, short_side: int) -> "DrawnFrames":
        return DrawnFrames(self._facts, image_size, self._budget)

    def video(self, number: int) -> dict[str, Any]:
        """Return the values that define one video: random numbers by name, "class", and "digit", its image."""
        facts = {name: self._facts[name][number] for name in (*_DRAWS, "class")}
        images = self._facts["digits"]
        return {**facts, "digit": images[min(int(facts["digit"] * len(images)), len(images) - 1)]}

    def squares(self, numbers: np.ndarray) -> np.ndarray:
        images = np.stack([self._image(number) for number in numbers.ravel().tolist()])
        return images.reshape(*numbers.shape, *images.shape[1:])

    def windows(self, numbers: np.ndarray, places: np.ndarray) -> np.ndarray:
        flat, places = self.squares(numbers.ravel()), places.reshape(-1, 4)
        for n, place in enumerate(places):
            if place[2] > place[0]:
                whole = Image.fromarray(flat[n])
                flat[n] = image_decoding.window(whole, self.image_size, place, np.array(whole.size))
        return flat.reshape(*numbers.shape, *flat.shape[1:])

    def _image(self, number: int) -> np.ndarray:
        image = self._cache.get(number)
        if image is None:
            video, frame = divmod(number, FRAMES)
            image = draw(self.video(video), frame, self.image_size)
            if self._budget.take(image.nbytes):
                self._cache[number] = image
        return image
