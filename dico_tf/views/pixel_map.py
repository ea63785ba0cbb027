"""Moving and covering whole pixels: any number of crops, flips and covers becomes a single gather."""

import tensorflow as tf

from dico_tf.views.operations import Fill

Length = tf.Tensor | int


class PixelMap:
    """Source of each pixel of a view: row [B, H] and column [B, W] of the image, or -1 for black.

    `cover` adds rectangles of the fill colour.
    """

    def __init__(self, images: tf.Tensor, fill: Fill) -> None:
        self.images, self.fill = images, fill
        batch, height, width = (tf.shape(images)[axis] for axis in range(3))
        self.sides = (height, width)
        self.rows = tf.tile(tf.range(height)[None], [batch, 1])
        self.columns = tf.tile(tf.range(width)[None], [batch, 1])
        self._covers: list[tuple[tf.Tensor, tf.Tensor]] = []  # bool [B, H], [B, W]: covered where both are true

    @property
    def covered(self) -> bool:
        """True after `cover`. Render before moving pixels again: a move does not take covers along."""
        return bool(self._covers)

    def shift(self, down: tf.Tensor, right: tf.Tensor, mirrored: bool = False) -> None:
        """Move the view by `down` and `right` [B] pixels over the image; beyond it is black, or the image mirrored."""
        moved = _mirrored if mirrored else _shifted
        self.rows, self.columns = moved(self.rows, down), moved(self.columns, right)

    def flip(self, where: tf.Tensor) -> None:
        """Mirror left to right the images for which `where` [B] is true."""
        self.columns = tf.where(where[:, None], self.columns[:, ::-1], self.columns)

    def cover(
        self, top: tf.Tensor, left: tf.Tensor, height: Length, width: Length, where: tf.Tensor | None = None
    ) -> None:
        """Cover a rectangle of each image, or of those for which `where` [B] is true, with the fill colour.

        Top, left, height and width are in pixels, [B]; height and width may be one number for all images. The rectangle
        may reach beyond the image.
        """
        inside = []
        for start, length, side in zip((top, left), (height, width), self.sides, strict=True):
            between = _between(start, length * tf.ones_like(start), side)
            inside.append(between if where is None else between & where[:, None])
        self._covers.append(tuple(inside))

    def render(self) -> tf.Tensor:
        """Return the views, float32 [B, H, W, 3], made by a single gather."""
        height, width = self.sides
        pixels = tf.reshape(self.images, [-1, 3])
        black = tf.shape(pixels)[0]
        first = tf.range(tf.shape(self.images)[0])[:, None] * height
        rows = tf.where(self.rows < 0, black, (first + self.rows) * width)
        columns = tf.where(self.columns < 0, black, self.columns)
        source = tf.minimum(rows[:, :, None] + columns[:, None, :], black)  # [B, H, W]
        for covered in self._covers:
            rows, columns = (tf.where(side, black + 1, 0) for side in covered)
            source = tf.maximum(source, tf.minimum(rows[:, :, None], columns[:, None, :]))
        pixels = tf.concat([pixels, tf.constant([(0.0, 0.0, 0.0), self.fill], tf.float32)], axis=0)
        return tf.ensure_shape(tf.gather(pixels, source), self.images.shape)


def _shifted(source: tf.Tensor, by: tf.Tensor) -> tf.Tensor:
    """Return source[b, i + by[b]], or -1 beyond its ends; source is [B, N]."""
    side = tf.shape(source)[1]
    position = tf.range(side) + by[:, None]
    inside = tf.gather(source, tf.clip_by_value(position, 0, side - 1), batch_dims=1)
    return tf.where((position < 0) | (position >= side), -1, inside)


def _mirrored(source: tf.Tensor, by: tf.Tensor) -> tf.Tensor:
    """Return source[b, i + by[b]], mirrored at its ends, which are not repeated; source is [B, N]."""
    side = tf.shape(source)[1]
    position = tf.abs(tf.range(side) + by[:, None])
    position = side - 1 - tf.abs(side - 1 - position)
    return tf.gather(source, tf.clip_by_value(position, 0, side - 1), batch_dims=1)


def _between(start: tf.Tensor, length: tf.Tensor, side: tf.Tensor) -> tf.Tensor:
    """Return bool [B, side]: start <= i < start + length."""
    position = tf.range(side)
    return (position >= start[:, None]) & (position < (start + length)[:, None])
