"""3-Augment and colour jitter, the views of DeiT III (arXiv 2204.07118), for whole batches."""

import tensorflow as tf

from dico_tf.views.counter_rng import CounterRng
from dico_tf.views.operations import apply_by_group

GREY = (0.299, 0.587, 0.114)
THRESHOLD = 128.0
SIGMAS = (0.1, 2.0)
_PASSES = 3  # box filters, as in PIL's Gaussian blur


def three_augment(images: tf.Tensor, rng: CounterRng) -> tf.Tensor:
    """Apply exactly one of grayscale, solarize and blur to each image [B, H, W, 3] of 0..255, all equally likely.

    The blur's sigma is uniform in 0.1..2 pixels.
    """
    sigma = rng.uniform("sigma", *SIGMAS)
    runs = [lambda x, _: tf.tile(_grey(x), [1, 1, 1, 3]), lambda x, _: solarize(x), blur]
    return apply_by_group(rng.integers("choice", len(runs)), runs, images, sigma)


def _grey(images: tf.Tensor) -> tf.Tensor:
    """Return the grey values [B, H, W, 1] of images [B, H, W, 3]."""
    return tf.tensordot(images, tf.constant(GREY)[:, None], 1)


def solarize(images: tf.Tensor) -> tf.Tensor:
    """Return x for values below 128, else 255 - x."""
    return tf.where(images < THRESHOLD, images, 255.0 - images)


def blur(images: tf.Tensor, sigma: tf.Tensor) -> tf.Tensor:
    """Blur each image by its own sigma [B], as PIL's Gaussian blur: three box filters of variance sigma^2 / 3 each.

    Edge pixels are repeated. The filters are products with one matrix per image, so that wide filters cost no more
    than narrow ones.
    """
    height, width = images.shape[1] or tf.shape(images)[1], images.shape[2] or tf.shape(images)[2]
    rows = _three_boxes(sigma, height)
    columns = rows if images.shape[1] == images.shape[2] is not None else _three_boxes(sigma, width)
    flat = tf.reshape(images, [-1, height, width * 3])
    down = tf.reshape(rows @ flat, [-1, height, width, 3])
    return tf.einsum("bvw,bhwc->bhvc", columns, down)


def _three_boxes(sigma: tf.Tensor, side: int | tf.Tensor) -> tf.Tensor:
    """Return three box filters, one after another, as one matrix for each sigma [B]: [B, side, side]."""
    once = _box(sigma, side)
    return once @ once @ once


def _box(sigma: tf.Tensor, side: int | tf.Tensor) -> tf.Tensor:
    """Return a box filter of variance sigma^2 / 3, as a matrix for each sigma [B]: [B, side, side].

    It averages 2 l + 1 pixels and a share of one more at each end; beyond the edge the last pixel is repeated.
    """
    variance = tf.square(sigma) / _PASSES
    whole = tf.floor((tf.sqrt(12.0 * variance + 1.0) - 1.0) / 2.0)
    share = (2.0 * whole + 1.0) * (whole * (whole + 1.0) - 3.0 * variance)
    share /= 6.0 * (variance - tf.square(whole + 1.0))
    reach = int((12.0 * SIGMAS[1] ** 2 / _PASSES + 1.0) ** 0.5 / 2 + 0.5)  # largest number of pixels to each side
    matrix = 0.0
    for offset in range(-reach, reach + 1):
        weight = tf.where(abs(offset) <= whole, 1.0, tf.where(abs(offset) <= whole + 1.0, share, 0.0))
        weight /= 2.0 * (whole + share) + 1.0
        source = tf.clip_by_value(tf.range(side) + offset, 0, side - 1)
        matrix += weight[:, None, None] * tf.one_hot(source, side)
    return matrix


def jitter(images: tf.Tensor, amount: float, rng: CounterRng) -> tf.Tensor:
    """Change brightness, contrast and saturation by factors U(max(1 - amount, 0), 1 + amount), in random order.

    Factors and order are drawn for each image. Each change is f x + (1 - f) d, clipped to 0..255. For brightness d is
    black, for contrast the image's mean grey, rounded, and for saturation each pixel's grey.
    """
    factor = rng.uniform("factor", max(1.0 - amount, 0.0), 1.0 + amount, count=3)  # [B, 3]
    order = tf.argsort(rng.uniform("order", count=3), axis=1)  # [B, place] of brightness, ...
    for place in range(3):
        number = order[:, place]
        f = tf.gather(factor, number, batch_dims=1)[:, None, None, None]
        grey = _grey(images)
        mean = tf.floor(tf.reduce_mean(grey, axis=(1, 2, 3), keepdims=True) + 0.5)
        by_mean, by_pixel = ((1.0 - f) * tf.cast(number == n, tf.float32)[:, None, None, None] for n in (1, 2))
        images = tf.clip_by_value(f * images + (by_mean * mean + by_pixel * grey), 0.0, 255.0)
    return images
