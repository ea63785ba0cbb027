"""Random windows of images (random resized crop, random short side, simple crop), and cutting them out."""

import math

import tensorflow as tf

from dico_tf.views import operations
from dico_tf.views.counter_rng import CounterRng

TRIES = 10  # draws of a window; if none of them fits, the largest allowed window in the middle is taken
ASPECTS = (3 / 4, 4 / 3)  # width / height


def area_windows(image_sizes: tf.Tensor, min_area: float, rng: CounterRng) -> tf.Tensor:
    """Return int32 windows [B, (left, top, right, bottom)] of images of sizes [B, (width, height)].

    Width round(sqrt(a r)) and height round(sqrt(a / r)), a = U(min_area, 1) of the area, r = e^U(ln 3/4, ln 4/3),
    anywhere inside: the first of ten draws that fits (the rule of torchvision's RandomResizedCrop).
    """
    side = tf.cast(image_sizes, tf.float32)[:, None, :]  # [B, 1, 2]
    least = tf.constant(min_area, tf.float32)
    area = tf.reduce_prod(side, -1) * (least + (1.0 - least) * rng.uniform("area", count=TRIES))
    aspect = tf.exp(rng.uniform("aspect", *map(math.log, ASPECTS), count=TRIES))
    tries = tf.round(tf.sqrt(tf.stack([area * aspect, area / aspect], axis=-1)))  # [B, 10, (width, height)]
    fits = tf.reduce_all((tries > 0) & (tries <= side), axis=-1)
    any_fits = tf.reduce_any(fits, axis=-1)[:, None]
    first = tf.one_hot(tf.argmax(tf.cast(fits, tf.int32), axis=-1), TRIES)[..., None]
    extent = tf.where(any_fits, tf.reduce_sum(first * tries, axis=-2), _largest(side[:, 0, :]))  # [B, 2]
    extent = tf.cast(extent, tf.int32)
    room = tf.cast(image_sizes, tf.int32) - extent
    corner = [rng.integers(name, room[:, n] + 1) for n, name in enumerate(("left", "top"))]
    corner = tf.where(any_fits, tf.stack(corner, axis=-1), room // 2)
    return tf.concat([corner, corner + extent], axis=-1)


def _largest(side: tf.Tensor) -> tf.Tensor:
    """Return the largest width and height [B, 2] of an allowed aspect."""
    width, height = side[:, 0], side[:, 1]
    extent = [tf.minimum(width, tf.round(height * ASPECTS[1])), tf.minimum(height, tf.round(width / ASPECTS[0]))]
    return tf.stack(extent, axis=-1)


def short_side_squares(image_sizes: tf.Tensor, least: float, most: float, rng: CounterRng) -> tf.Tensor:
    """Return float32 windows [B, 4] of images of sizes [B, (width, height)]: squares anywhere inside.

    A square's side is the image's short side / U(least, most). Resizing it to the view's size therefore makes the
    image's short side U(least, most) times as long as the view.
    """
    image_sizes = tf.cast(image_sizes, tf.float32)
    least, most = tf.constant(least, tf.float32), tf.constant(most, tf.float32)
    short = least + (most - least) * rng.uniform("side")
    side = (tf.reduce_min(image_sizes, axis=-1) / short)[:, None]
    share = tf.stack([rng.uniform(name) for name in ("left", "top")], axis=-1)
    corner = share * (image_sizes - side)
    return tf.concat([corner, corner + side], axis=-1)


def padded_squares(image_sizes: tf.Tensor, side: int, padding: int, rng: CounterRng) -> tf.Tensor:
    """Return float32 windows [B, 4] of images of sizes [B, (width, height)].

    They are squares of `side` pixels of the image whose short side was resized to `side`, and reach up to `padding`
    of its pixels beyond an edge.
    """
    image_sizes = tf.cast(image_sizes, tf.float32)
    resized = tf.floor(side * image_sizes / tf.reduce_min(image_sizes, axis=-1, keepdims=True) + 1e-3)
    room = tf.cast(resized, tf.int32) - side + 2 * padding
    corner = [rng.integers(name, room[:, n] + 1) for n, name in enumerate(("left", "top"))]
    corner = tf.cast(tf.stack(corner, axis=-1) - padding, tf.float32)
    scale = image_sizes / resized
    return tf.concat([corner * scale, (corner + side) * scale], axis=-1)


def sizes(images: tf.Tensor) -> tf.Tensor:
    """Return int32 [B, (width, height)] of images [B, H, W, 3]."""
    batch, height, width = (tf.shape(images)[axis] for axis in range(3))
    return tf.tile(tf.stack([width, height])[None], [batch, 1])


def show(images: tf.Tensor, windows: tf.Tensor) -> tf.Tensor:
    """Return the windows [B, 4] of images [B, H, W, 3], enlarged to [B, H, W, 3], bilinear."""
    height, width = (tf.shape(images)[axis] for axis in (1, 2))
    left, top, right, bottom = tf.unstack(tf.cast(windows, tf.float32), axis=1)
    columns = (right - left) / tf.cast(width, tf.float32)  # shares of the sides
    rows = (bottom - top) / tf.cast(height, tf.float32)
    # pixel x covers [x, x + 1): its middle x + 1/2 shows left + columns (x + 1/2)
    zero = tf.zeros_like(rows)
    matrices = [columns, zero, left + columns / 2 - 0.5, zero, rows, top + rows / 2 - 0.5]
    return operations.project(images, tf.stack(matrices, axis=1), None)
