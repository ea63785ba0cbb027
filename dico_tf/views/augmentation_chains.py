"""AutoAugment and RandAugment: draw the operations of each image and their strengths, and apply them."""

import numpy as np
import tensorflow as tf

from dico_tf.views import autoaugment, operations
from dico_tf.views.counter_rng import CounterRng

_NUMBER = {name: number for number, name in enumerate(operations.NAMES)}
RANDAUGMENT = (
    "autocontrast", "equalize", "invert", "rotate", "posterize", "solarize", "solarize_add", "colour", "contrast",
    "brightness", "sharpness", "shear_x", "shear_y", "translate_x", "translate_y",
)  # fmt: skip


def in_place_only(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names without those of operations that move pixels."""
    return tuple(name for name in names if name not in operations.GEOMETRIC)


def _where(done: tf.Tensor, operation: tf.Tensor) -> tf.Tensor:
    return tf.where(done, operation, _NUMBER["identity"])


def auto_augment(images: tf.Tensor, table: tuple, rng: CounterRng, in_place: bool = False) -> tf.Tensor:
    """Apply one pair of operations of a table to each image; all pairs are equally likely.

    Each operation of the pair is applied with its own probability. Its value is centre + span or centre - span, equally
    likely (see `autoaugment.value`). Pixels from outside of the image are grey (128).

    Args:
        images: float32 [B, H, W, 3] in 0..255.
        table: pairs of operations, each (name, probability, level), such as `autoaugment.CIFAR`.
        in_place: operations that move pixels do nothing; the rest of their pair is still applied.
    """
    if in_place:
        table = tuple(
            tuple(("identity", 0.0, 0) if half[0] in operations.GEOMETRIC else half for half in pair) for pair in table
        )
    numbers = tf.constant([[_NUMBER[name] for name, _, _ in pair] for pair in table])  # [25, 2]
    chances = tf.constant([[chance for _, chance, _ in pair] for pair in table])
    values = tf.constant([[autoaugment.value(name, level) for name, _, level in pair] for pair in table])  # [25, 2, 2]
    pair = rng.integers("pair", len(table))
    done = rng.uniform("done", count=2) < tf.gather(chances, pair)  # [B, 2]
    sign = tf.where(rng.uniform("sign", count=2) < 0.5, -1.0, 1.0)
    operation = _where(done, tf.gather(numbers, pair))
    value = tf.gather(values, pair)  # [B, 2, (centre, span)]
    value = value[..., 0] + sign * value[..., 1]
    for half in range(2):
        images = operations.apply(images, operation[:, half], value[:, half], autoaugment.FILL)
    return images


def randaugment_values(level: tf.Tensor) -> dict[str, tf.Tensor]:
    """Return the values of each operation of RandAugment at these levels in 0..10, with the shape of `level`.

    Values of operations that move pixels are not negative here; `rand_augment` negates each with probability 1/2.
    """
    share, none = level / 10.0, tf.zeros_like(level)
    factor = 0.1 + 1.8 * share
    return {
        "autocontrast": none,
        "equalize": none,
        "invert": none,
        "rotate": 30.0 * share,
        "posterize": tf.floor(4.0 * share),
        "solarize": tf.floor(256.0 * share),
        "solarize_add": tf.floor(110.0 * share),
        "colour": factor,
        "contrast": factor,
        "brightness": factor,
        "sharpness": factor,
        "shear_x": 0.3 * share,
        "shear_y": 0.3 * share,
        "translate_x": 0.45 * share,
        "translate_y": 0.45 * share,
    }


def rand_augment(
    images: tf.Tensor, m: float, rng: CounterRng, fill: operations.Fill, in_place: bool = False
) -> tf.Tensor:
    """Draw two of 15 operations for each image, with replacement, and apply each with probability 1/2.

    Each has its own level, drawn from a normal distribution and clipped to 0..10. Rotations, shears and translations go
    to either side, equally likely.

    Args:
        images: float32 [B, H, W, 3] in 0..255.
        m: mean of the normal distribution; its standard deviation is 1/2.
        fill: colour of pixels from outside of the image.
        in_place: draw from the ten operations that move no pixel.
    """
    names = in_place_only(RANDAUGMENT) if in_place else RANDAUGMENT
    choice = rng.integers("operation", len(names), count=2)  # [B, 2]
    level = tf.clip_by_value(m + 0.5 * rng.normal("level", count=2), 0.0, 10.0)
    values = randaugment_values(level)
    value = tf.gather(tf.stack([values[name] for name in names], axis=-1), choice, batch_dims=2)
    signed = tf.gather(tf.constant(np.isin(names, operations.GEOMETRIC)), choice)
    negative = rng.uniform("sign", count=2) < 0.5
    value = tf.where(signed & negative, -value, value)
    operation = tf.gather(tf.constant([_NUMBER[name] for name in names]), choice)
    operation = _where(rng.uniform("done", count=2) < 0.5, operation)
    for half in range(2):
        images = operations.apply(images, operation[:, half], value[:, half], fill)
    return images
