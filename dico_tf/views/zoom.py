"""The random resized crop."""

import math

import tensorflow as tf

from dico_tf.views import operations
from dico_tf.views.draws import Draws


def resized_crop(images: tf.Tensor, min_area: float, draws: Draws, stream: str) -> tf.Tensor:
    """A window of area U(min_area, 1) and aspect e^U(ln 3/4, ln 4/3) anywhere inside, enlarged bilinearly."""
    height, width = tf.unstack(tf.cast(tf.shape(images)[1:3], tf.float32))
    area = draws.uniform(f"{stream} area", min_area, 1.0)
    aspect = tf.exp(draws.uniform(f"{stream} aspect", math.log(3 / 4), math.log(4 / 3)))
    rows = tf.minimum(tf.sqrt(area / aspect), 1.0)  # shares of the sides
    columns = tf.minimum(tf.sqrt(area * aspect), 1.0)
    top = (1.0 - rows) * draws.uniform(f"{stream} top") * height
    left = (1.0 - columns) * draws.uniform(f"{stream} left") * width
    # pixel x covers [x, x + 1): its middle x + 1/2 shows left + columns (x + 1/2)
    zero = tf.zeros_like(rows)
    matrices = [columns, zero, left + columns / 2 - 0.5, zero, rows, top + rows / 2 - 0.5]
    return operations.project(images, tf.stack(matrices, axis=1), None)
