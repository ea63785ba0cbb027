"""Resizing and centre crop within a graph, with the same bits as Pillow gives in data/image_decoding.py.

Pillow resamples along rows and columns separately, with weights of 22 bits and rounding to 8 bits after each.
"""

import tensorflow as tf

_BITS = 22


def square(image: tf.Tensor, size: int, short: int) -> tf.Tensor:
    """Return the centre, uint8 [size, size, 3], of an image uint8 [h, w, 3] resized to the short side `short`.

    With short <= size it is the whole central square, resized to `size`.
    """
    height, width = tf.shape(image)[0], tf.shape(image)[1]
    side = tf.minimum(height, width)
    (top, bottom), (left, right) = (_extent(length, side, size, short) for length in (height, width))
    kind = _triangle if short <= size else _cubic
    image = tf.cast(image, tf.int32)
    down = lambda image: _along(image, 0, *_taps(height, top, bottom, size, *kind))  # noqa: E731
    across = lambda image: _along(image, 1, *_taps(width, left, right, size, *kind))  # noqa: E731
    tall = (height > size) & (height + size > 2 * width)  # Pillow >= 13 starts with the height of these
    image = tf.cond(tall, lambda: across(down(image)), lambda: down(across(image)))
    return tf.ensure_shape(tf.cast(image, tf.uint8), (size, size, 3))


def _extent(length: tf.Tensor, side: tf.Tensor, size: int, short: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Return begin and end of the square along an axis with `length` pixels, as float32, like Pillow.

    Both are in pixels of the image before it is resized; `side` is that image's shorter side.
    """
    if short <= size:
        low = (length - side) // 2
        return tf.cast(low, tf.float32), tf.cast(low + side, tf.float32)
    length, side = tf.cast(length, tf.float64), tf.cast(side, tf.float64)
    resized = tf.floor(short * length / side)
    low = tf.round((resized - size) / 2)
    return tuple(tf.cast(edge * (length / resized), tf.float32) for edge in (low, low + size))


def _bilinear(x: tf.Tensor) -> tf.Tensor:
    return tf.maximum(1 - abs(x), 0)


def _bicubic(x: tf.Tensor) -> tf.Tensor:
    """Return the weight at distance x by Keys' cubic kernel with a = -1/2."""
    x = abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = -0.5 * (((x - 5) * x + 8) * x - 4)
    return tf.where(x < 1, near, tf.where(x < 2, far, tf.zeros_like(x)))


_triangle, _cubic = (_bilinear, 1.0), (_bicubic, 2.0)  # kernel, and its radius


def _taps(length, low, high, size: int, kernel, reach: float) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the first input pixel of each output pixel, int32 [size], and the weights, int32 [size, taps].

    A row of weights is for the first input pixel and those after it; the weights are multiplied by 2^22. The axis has
    `length` input pixels, the square reaches from `low` to `high`, and `reach` is the kernel's radius.
    """
    scale = tf.cast(high - low, tf.float64) / size
    wide = tf.maximum(scale, 1)
    support = reach * wide
    centre = tf.cast(low, tf.float64) + (tf.range(size, dtype=tf.float64) + 0.5) * scale
    first = tf.cast(tf.maximum(centre - support + 0.5, 0), tf.int32)
    last = tf.minimum(tf.cast(centre + support + 0.5, tf.int32), length)
    place = tf.range(tf.cast(tf.math.ceil(support), tf.int32) * 2 + 1)  # [taps]
    offset = tf.cast(place + first[:, None], tf.float64) - centre[:, None] + 0.5
    weights = tf.where(place < (last - first)[:, None], kernel(offset / wide), 0)
    weights = weights / tf.reduce_sum(weights, 1, keepdims=True) * 2.0**_BITS
    return first, tf.cast(weights + 0.5 * tf.sign(weights), tf.int32)


def _along(image: tf.Tensor, axis: int, first: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Return the weighted sums along an axis as int32 from 0 to 255; taps are added one at a time to save memory."""
    last = tf.shape(image)[axis] - 1
    broadcast = (1, -1, 1) if axis else (-1, 1, 1)

    def add(tap, total):
        pixels = tf.gather(image, tf.minimum(first + tap, last), axis=axis)
        return tap + 1, total + pixels * tf.reshape(weights[:, tap], broadcast)

    start = tf.zeros_like(tf.gather(image, first, axis=axis)) + 2 ** (_BITS - 1)
    _, total = tf.while_loop(lambda tap, _: tap < tf.shape(weights)[1], add, (tf.constant(0), start))
    return tf.clip_by_value(tf.bitwise.right_shift(total, _BITS), 0, 255)
