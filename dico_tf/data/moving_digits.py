"""Handwritten digits that move, turn, grow or shrink: a set of films that needs no download.

The class is how the digit moves. Classes come in opposite pairs: a film of one run backwards is a film of the other,
and a motion is caught at any point of its course. So a single frame does not tell the two apart.
"""

import functools
import math

import numpy as np
from PIL import Image

from dico_tf.config import Data
from dico_tf.data import clips, image_decoding, memory_budget
from dico_tf.data.source import Source, Split
from dico_tf.data.validation import stratified
from dico_tf.data.video_folder import MEAN, STD

CLASSES = ("right", "left", "down", "up", "clockwise", "counterclockwise", "growing", "shrinking")
FRAMES = 24  # of a film
FILMS = {"train": 960, "test": 240}
SIZE = 32  # pixels, unless asked otherwise
SET_SEED = 0  # not the run's: every run learns from and is tested on the same films
SPEED = (0.02, 0.05)  # of a course, in a frame
SCALE = (0.35, 0.9)  # side of the digit as a share of the picture's

_STREAM = 3  # what Philox is asked for: orders and held-out images take 1 and 2 (epoch_order.py)
_SPRITE = 32  # pixels of a digit before it is drawn; the originals have 8
_DRAWS = ("speed", "phase", "x", "y", "angle", "scale", "digit", "red", "green", "blue", "ground")


def load(data: Data, seed: int) -> Source:
    size = data.image_size or SIZE
    return Source(
        name="moving",
        class_names=CLASSES,
        image_size=size,
        splits={part: _split(part, size, data.frames, data.frame_rate) for part in FILMS},
        mean=MEAN,
        std=STD,
        short_side=size,
    )


def _split(part: str, size: int, count: int, rate: int) -> Split:
    number = FILMS[part]
    labels = np.arange(number) % len(CLASSES)
    frames = DrawnFrames(facts(part), size, memory_budget.MemoryBudget(memory_budget.limit()))
    return Split(
        labels=labels,
        ids=[f"{part}_{n:04d}" for n in range(number)],
        lazy_images=clips.videos(frames, [FRAMES] * number, count, rate, "moving"),
    )


@functools.cache
def digits(part: str) -> np.ndarray:
    """uint8 [M, 32, 32], white on black; of training films others than of those to test on."""
    from sklearn.datasets import load_digits

    found = load_digits()
    kept, drawn = stratified(found.target, 0.2, SET_SEED)
    grey = np.round(found.images[kept if part == "train" else drawn] * (255 / 16)).astype(np.uint8)
    return np.stack([Image.fromarray(digit).resize((_SPRITE,) * 2, Image.Resampling.BICUBIC) for digit in grey])


def facts(part: str) -> dict[str, np.ndarray]:
    """What a film is drawn from: U(0, 1) [N] of each name, its class [N], and the pictures of the digits."""
    number = FILMS[part]
    source = np.random.Philox(np.random.SeedSequence((_STREAM, SET_SEED, list(FILMS).index(part))))
    draws = (source.random_raw(number * len(_DRAWS)) >> np.uint64(11)) * 2.0**-53
    columns = draws.reshape(len(_DRAWS), number)
    return {
        **dict(zip(_DRAWS, columns, strict=True)),
        "class": np.arange(number) % len(CLASSES),
        "digits": digits(part),
    }


def state(film: dict[str, float], frame: int) -> tuple[float, float, float, float]:
    """(x, y, angle, scale) of the digit's middle: shares of the picture, radians, share of its side."""
    kind, backwards = divmod(int(film["class"]), 2)
    speed = SPEED[0] + (SPEED[1] - SPEED[0]) * film["speed"]
    passed = film["phase"] + (-speed if backwards else speed) * frame
    course = passed - math.floor(passed)  # 0..1: at its end it begins again
    x, y = (0.35 + 0.3 * film[name] for name in ("x", "y"))
    angle, scale = 2 * math.pi * film["angle"], 0.45 + 0.25 * film["scale"]
    across = -0.25 + 1.5 * course  # from outside to outside
    if kind == 0:
        return across, y, angle, scale
    if kind == 1:
        return x, across, angle, scale
    if kind == 2:
        return x, y, 2 * math.pi * course, scale
    return x, y, angle, SCALE[0] * (SCALE[1] / SCALE[0]) ** course


def draw(film: dict[str, float], frame: int, size: int) -> np.ndarray:
    """uint8 [size, size, 3]."""
    x, y, angle, scale = state(film, frame)
    step = _SPRITE / (scale * size)  # pixels of the digit to one of the picture
    a, b = step * math.cos(angle), step * math.sin(angle)
    middle = _SPRITE / 2
    matrix = (a, b, middle - size * (a * x + b * y), -b, a, middle - size * (a * y - b * x))
    found = Image.fromarray(film["digit"]).transform(
        (size, size), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
    )
    share = np.asarray(found, np.float32)[:, :, None] / 255
    ground = np.full(3, 90 * film["ground"], np.float32)
    colour = 130 + 125 * np.array([film[name] for name in ("red", "green", "blue")], np.float32)
    return np.rint(ground + share * (colour - ground)).astype(np.uint8)


class DrawnFrames:
    """Frames that are drawn when asked for, and kept while there is room."""

    def __init__(self, facts: dict[str, np.ndarray], image_size: int, room: memory_budget.MemoryBudget) -> None:
        self._facts, self.image_size, self._room, self._kept = facts, image_size, room, {}
        self.sizes = np.full((FRAMES * len(facts["class"]), 2), image_size, np.int32)

    def at(self, image_size: int, short_side: int) -> "DrawnFrames":
        return DrawnFrames(self._facts, image_size, self._room)

    def film(self, number: int) -> dict[str, float]:
        found = {name: self._facts[name][number] for name in (*_DRAWS, "class")}
        pictures = self._facts["digits"]
        return {**found, "digit": pictures[min(int(found["digit"] * len(pictures)), len(pictures) - 1)]}

    def squares(self, numbers: np.ndarray) -> np.ndarray:
        found = np.stack([self._picture(number) for number in numbers.ravel().tolist()])
        return found.reshape(*numbers.shape, *found.shape[1:])

    def windows(self, numbers: np.ndarray, places: np.ndarray) -> np.ndarray:
        flat, places = self.squares(numbers.ravel()), places.reshape(-1, 4)
        for n, place in enumerate(places):
            if place[2] > place[0]:
                whole = Image.fromarray(flat[n])
                flat[n] = image_decoding.window(whole, self.image_size, place, np.array(whole.size))
        return flat.reshape(*numbers.shape, *flat.shape[1:])

    def _picture(self, number: int) -> np.ndarray:
        found = self._kept.get(number)
        if found is None:
            film, frame = divmod(number, FRAMES)
            found = draw(self.film(film), frame, self.image_size)
            if self._room.take(found.nbytes):
                self._kept[number] = found
        return found
