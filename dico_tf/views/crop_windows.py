"""Random windows of images: random resized crop, random short side and simple crop; and their cutting out."""

import math

import tensorflow as tf

from dico_tf.views import operations
from dico_tf.views.counter_rng import CounterRng

TRIES = 10  # draws of a window; if none of them fits, the largest allowed window in the middle is taken
ASPECTS = (3 / 4, 4 / 3)  # width / height


def area_windows(image_sizes: tf.Tensor, min_area: float, rng: CounterRng) -> tf.Tensor:
    """Draw int32 windows [B, (left, top, right, bottom)] by the rule of torchvision's RandomResizedCrop.

    A window is round(sqrt(a r)) pixels wide and round(sqrt(a / r)) high. The area a is uniform between min_area and 1
    times that of the image, and the aspect r log-uniform in 3/4..4/3. The first of ten draws that fits is placed
    anywhere inside the image. If none fits, it is the largest window of an aspect in 3/4..4/3, in the middle.

    Args:
        image_sizes: [B, (width, height)].
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


def _largest(image_sizes: tf.Tensor) -> tf.Tensor:
    """Return the largest (width, height) [B, 2] of an aspect in 3/4..4/3 that fits into images of these sizes."""
    width, height = image_sizes[:, 0], image_sizes[:, 1]
    extent = [tf.minimum(width, tf.round(height * ASPECTS[1])), tf.minimum(height, tf.round(width / ASPECTS[0]))]
    return tf.stack(extent, axis=-1)


def short_side_squares(image_sizes: tf.Tensor, least: float, most: float, rng: CounterRng) -> tf.Tensor:
    """Draw square windows anywhere inside of images: float32 [B, (left, top, right, bottom)].

    A square's side is the image's short side / f, with f uniform between `least` and `most`. This equals resizing the
    image, so that its short side is f times the view's side, and then cutting out a square as large as the view.

    Args:
        image_sizes: [B, (width, height)].
        least: at least 1, so that the square fits into the image.
    """
    image_sizes = tf.cast(image_sizes, tf.float32)
    least, most = tf.constant(least, tf.float32), tf.constant(most, tf.float32)
    short = least + (most - least) * rng.uniform("side")
    side = (tf.reduce_min(image_sizes, axis=-1) / short)[:, None]
    share = tf.stack([rng.uniform(name) for name in ("left", "top")], axis=-1)
    corner = share * (image_sizes - side)
    return tf.concat([corner, corner + side], axis=-1)


def padded_squares(image_sizes: tf.Tensor, side: int, padding: int, rng: CounterRng) -> tf.Tensor:
    """Draw square windows that may reach beyond the image: float32 [B, (left, top, right, bottom)].

    Think of the image as resized, so that its short side is `side` pixels, with a border of `padding` pixels around. A
    window is a square of `side` pixels anywhere in it. Its corners are returned in pixels of the original image.

    Args:
        image_sizes: [B, (width, height)] of the original images.
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


def cut_and_resize(images: tf.Tensor, windows: tf.Tensor) -> tf.Tensor:
    """Cut the window (left, top, right, bottom) [B, 4] out of each image [B, H, W, 3] and resize it to H x W, bilinear.

    Beyond the image, its edge pixels are repeated.
    """
    height, width = (tf.shape(images)[axis] for axis in (1, 2))
    left, top, right, bottom = tf.unstack(tf.cast(windows, tf.float32), axis=1)
    columns = (right - left) / tf.cast(width, tf.float32)  # shares of the sides
    rows = (bottom - top) / tf.cast(height, tf.float32)
    # pixel x covers [x, x + 1): its middle x + 1/2 shows left + columns (x + 1/2)
    zero = tf.zeros_like(rows)
    matrices = [columns, zero, left + columns / 2 - 0.5, zero, rows, top + rows / 2 - 0.5]
    return operations.project(images, tf.stack(matrices, axis=1), None)
