"""Pieces that only move or cover whole pixels (crop, flip, erase, cutout): one gather for all that stand together."""

import tensorflow as tf

from dico_tf.views.counter_rng import CounterRng
from dico_tf.views.operations import Fill
from dico_tf.views.policies import Crop, Cutout, Erase, Flip, SimpleCrop

MOVES = (Crop, Flip, SimpleCrop)
COVERS = (Erase, Cutout)


class PixelMap:
    """Where the pixels of a view come from: row [B, H] and column [B, W] of the picture, -1 outside of it."""

    def __init__(self, images: tf.Tensor, fill: Fill) -> None:
        self.images, self.fill = images, fill
        batch, height, width = (tf.shape(images)[axis] for axis in range(3))
        self.sides = (height, width)
        self.rows = tf.tile(tf.range(height)[None], [batch, 1])
        self.columns = tf.tile(tf.range(width)[None], [batch, 1])
        self.covers: list[tuple[tf.Tensor, tf.Tensor]] = []  # bool [B, H], [B, W]: covered where both hold

    def crop(self, piece: Crop, draws: CounterRng, stream: str) -> None:
        """The window [H, W] at a drawn place of the picture with `padding` black pixels on each side."""
        top = draws.below(f"{stream} top", 2 * piece.padding + 1) - piece.padding
        left = draws.below(f"{stream} left", 2 * piece.padding + 1) - piece.padding
        self.rows, self.columns = _shifted(self.rows, top), _shifted(self.columns, left)

    def simple_crop(self, piece: SimpleCrop, draws: CounterRng, stream: str) -> None:
        """The window [H, W] at a drawn place of the picture, mirrored for `padding` pixels at each side."""
        count = 2 * piece.padding + 1
        top, left = (draws.below(f"{stream} {name}", count) - piece.padding for name in ("top", "left"))
        self.rows, self.columns = _mirrored(self.rows, top), _mirrored(self.columns, left)

    def flip(self, piece: Flip, draws: CounterRng, stream: str) -> None:
        """Left to right, with probability 1/2."""
        self.columns = tf.where(draws.uniform(stream)[:, None] < 0.5, self.columns[:, ::-1], self.columns)

    def erase(self, piece: Erase, draws: CounterRng, stream: str) -> None:
        """With probability p, round(sqrt(area aspect)) x round(sqrt(area / aspect)) pixels, anywhere inside."""
        done = draws.uniform(f"{stream} done") < piece.p
        area = draws.uniform(f"{stream} area", piece.min_area, piece.max_area)
        aspect = draws.uniform(f"{stream} aspect", piece.min_aspect, piece.max_aspect)  # height / width
        pixels = area * tf.cast(self.sides[0] * self.sides[1], tf.float32)
        extents = (tf.sqrt(pixels * aspect), tf.sqrt(pixels / aspect))
        inside = []
        for name, side, extent in zip(("top", "left"), self.sides, extents, strict=True):
            length = tf.minimum(tf.cast(tf.round(extent), tf.int32), side)
            start = draws.below(f"{stream} {name}", side - length + 1)
            inside.append(_between(start, length, side) & done[:, None])
        self.covers.append(tuple(inside))

    def cutout(self, piece: Cutout, draws: CounterRng, stream: str) -> None:
        """A square of `size` pixels (0: half of each side) around a drawn pixel, cut off at the picture's edges."""
        inside = []
        for name, side in zip(("row", "column"), self.sides, strict=True):
            length = piece.size or side // 2
            start = draws.below(f"{stream} {name}", side) - length // 2
            inside.append(_between(start, length * tf.ones_like(start), side))
        self.covers.append(tuple(inside))

    def add(self, piece: Crop | Flip | SimpleCrop | Erase | Cutout, draws: CounterRng, stream: str) -> None:
        _ADD[type(piece)](self, piece, draws, stream)

    def view(self) -> tf.Tensor:
        """One gather from the list of the batch's pixels, then a black one, then one of the fill colour."""
        height, width = self.sides
        pixels = tf.reshape(self.images, [-1, 3])
        black = tf.shape(pixels)[0]
        first = tf.range(tf.shape(self.images)[0])[:, None] * height
        rows = tf.where(self.rows < 0, black, (first + self.rows) * width)
        columns = tf.where(self.columns < 0, black, self.columns)
        place = tf.minimum(rows[:, :, None] + columns[:, None, :], black)  # [B, H, W]
        for covered in self.covers:
            rows, columns = (tf.where(side, black + 1, 0) for side in covered)
            place = tf.maximum(place, tf.minimum(rows[:, :, None], columns[:, None, :]))
        pixels = tf.concat([pixels, tf.constant([(0.0, 0.0, 0.0), self.fill], tf.float32)], axis=0)
        return tf.ensure_shape(tf.gather(pixels, place), self.images.shape)


_ADD = {
    Crop: PixelMap.crop,
    SimpleCrop: PixelMap.simple_crop,
    Flip: PixelMap.flip,
    Erase: PixelMap.erase,
    Cutout: PixelMap.cutout,
}


def _shifted(source: tf.Tensor, by: tf.Tensor) -> tf.Tensor:
    """source[b, i + by[b]], -1 beyond its ends; source [B, N]."""
    side = tf.shape(source)[1]
    place = tf.range(side) + by[:, None]
    found = tf.gather(source, tf.clip_by_value(place, 0, side - 1), batch_dims=1)
    return tf.where((place < 0) | (place >= side), -1, found)


def _mirrored(source: tf.Tensor, by: tf.Tensor) -> tf.Tensor:
    """source[b, i + by[b]], mirrored at its ends, which are not repeated; source [B, N]."""
    side = tf.shape(source)[1]
    place = tf.abs(tf.range(side) + by[:, None])
    place = side - 1 - tf.abs(side - 1 - place)
    return tf.gather(source, tf.clip_by_value(place, 0, side - 1), batch_dims=1)


def _between(start: tf.Tensor, length: tf.Tensor, side: tf.Tensor) -> tf.Tensor:
    """bool [B, side]: start <= i < start + length."""
    place = tf.range(side)
    return (place >= start[:, None]) & (place < (start + length)[:, None])
