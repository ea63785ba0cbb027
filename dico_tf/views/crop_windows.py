"""Which window of a picture a view shows (random resized crop, random short side, simple crop), and showing it."""

import math

import tensorflow as tf

from dico_tf.views import operations
from dico_tf.views.counter_rng import CounterRng

TRIES = 10  # to draw a window that fits; then the largest in the middle is taken
ASPECTS = (3 / 4, 4 / 3)  # width / height


def windows(sizes: tf.Tensor, min_area: float | tf.Tensor, draws: CounterRng, stream: str) -> tf.Tensor:
    """int32 [..., (left, top, right, bottom)] within pictures of sizes [..., (width, height)], in whole pixels.

    Width round(sqrt(a r)) and height round(sqrt(a / r)), a = U(min_area, 1) of the area, r = e^U(ln 3/4, ln 4/3),
    anywhere inside: the first of ten draws that fits (torchvision's rule).
    """
    side = tf.cast(sizes, tf.float32)[..., None, :]  # [..., 1, 2]
    least = tf.convert_to_tensor(min_area)[..., None]
    area = tf.reduce_prod(side, -1) * (least + (1.0 - least) * draws.uniform(f"{stream} area", count=TRIES))
    aspect = tf.exp(draws.uniform(f"{stream} aspect", *map(math.log, ASPECTS), count=TRIES))
    drawn = tf.round(tf.sqrt(tf.stack([area * aspect, area / aspect], axis=-1)))  # [..., 10, (width, height)]
    fits = tf.reduce_all((drawn > 0) & (drawn <= side), axis=-1)
    some = tf.reduce_any(fits, axis=-1)[..., None]
    first = tf.one_hot(tf.argmax(tf.cast(fits, tf.int32), axis=-1), TRIES)[..., None]
    extent = tf.where(some, tf.reduce_sum(first * drawn, axis=-2), _largest(side[..., 0, :]))  # [..., 2]
    extent = tf.cast(extent, tf.int32)
    room = tf.cast(sizes, tf.int32) - extent
    place = [draws.below(f"{stream} {name}", room[..., n] + 1) for n, name in enumerate(("left", "top"))]
    place = tf.where(some, tf.stack(place, axis=-1), room // 2)
    return tf.concat([place, place + extent], axis=-1)


def _largest(side: tf.Tensor) -> tf.Tensor:
    """The largest extent [..., 2] whose aspect is allowed."""
    width, height = side[..., 0], side[..., 1]
    extent = [tf.minimum(width, tf.round(height * ASPECTS[1])), tf.minimum(height, tf.round(width / ASPECTS[0]))]
    return tf.stack(extent, axis=-1)


def squares(sizes: tf.Tensor, least: tf.Tensor, most: tf.Tensor, draws: CounterRng, stream: str) -> tf.Tensor:
    """float32 [..., 4] within pictures of sizes [..., (width, height)]: squares of a side / U(least, most), anywhere.

    The picture whose short side is U(least, most) image sizes long shows so much of itself in one of them.
    """
    sizes = tf.cast(sizes, tf.float32)
    short = least + (most - least) * draws.uniform(f"{stream} side")
    side = (tf.reduce_min(sizes, axis=-1) / short)[..., None]
    share = tf.stack([draws.uniform(f"{stream} {name}") for name in ("left", "top")], axis=-1)
    low = share * (sizes - side)
    return tf.concat([low, low + side], axis=-1)


def beside(sizes: tf.Tensor, side: int, padding: tf.Tensor, draws: CounterRng, stream: str) -> tf.Tensor:
    """float32 [..., 4] of pictures of sizes [..., (width, height)], whose short side is to be `side` pixels long.

    Squares of so many pixels, anywhere in the resized picture or up to `padding` of its pixels beyond an edge.
    """
    sizes = tf.cast(sizes, tf.float32)
    resized = tf.floor(side * sizes / tf.reduce_min(sizes, axis=-1, keepdims=True) + 1e-3)
    room = tf.cast(resized, tf.int32) - side + 2 * padding[..., None]
    place = [draws.below(f"{stream} {name}", room[..., n] + 1) for n, name in enumerate(("left", "top"))]
    low = tf.cast(tf.stack(place, axis=-1) - padding[..., None], tf.float32)
    scale = sizes / resized
    return tf.concat([low * scale, (low + side) * scale], axis=-1)


def resized_crop(images: tf.Tensor, min_area: float, draws: CounterRng, stream: str) -> tf.Tensor:
    """A window of images that are whole pictures, enlarged to their size, bilinear."""
    return _shown(images, windows(_sizes(images), min_area, draws, stream))


def short_side(images: tf.Tensor, least: float, most: float, draws: CounterRng, stream: str) -> tf.Tensor:
    """A square of images that are whole pictures, enlarged to their size, bilinear."""
    return _shown(images, squares(_sizes(images), tf.constant(least), tf.constant(most), draws, stream))


def _sizes(images: tf.Tensor) -> tf.Tensor:
    """[B, (width, height)]."""
    batch, height, width = (tf.shape(images)[axis] for axis in range(3))
    return tf.tile(tf.stack([width, height])[None], [batch, 1])


def _shown(images: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    height, width = (tf.shape(images)[axis] for axis in (1, 2))
    left, top, right, bottom = tf.unstack(tf.cast(places, tf.float32), axis=1)
    columns = (right - left) / tf.cast(width, tf.float32)  # shares of the sides
    rows = (bottom - top) / tf.cast(height, tf.float32)
    # pixel x covers [x, x + 1): its middle x + 1/2 shows left + columns (x + 1/2)
    zero = tf.zeros_like(rows)
    matrices = [columns, zero, left + columns / 2 - 0.5, zero, rows, top + rows / 2 - 0.5]
    return operations.project(images, tf.stack(matrices, axis=1), None)
