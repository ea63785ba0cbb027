"""What XCiT is made of (El-Nouby et al. 2021): attention between channels, attention of a class token, places."""

import math

import keras
import numpy as np
from keras import ops

from dico_tf.errors import UserError
from dico_tf.layers.attention import attended
from dico_tf.layers.image import uniform

_LEAST = 1e-12  # length of a query or key below which it is not made longer
WAVES = 32  # sines and cosines of each side
_SLOWEST = 10000.0


@keras.saving.register_keras_serializable("dico_tf")
class CrossCovariance(keras.layers.Layer):
    """v softmax(k' q t) of every head, queries and keys of length 1: [B, H, W, 3 h d] -> [B, H, W, h d].

    Each channel of a head attends to the channels of that head; t is learnt for each head.
    """

    def __init__(self, heads: int, **options):
        super().__init__(**options)
        self.heads = heads

    def build(self, input_shape):
        if input_shape[-1] % (3 * self.heads):
            raise UserError(f"{input_shape[-1]} channels are no queries, keys and values of {self.heads} heads")
        self.temperature = self.add_weight(shape=(self.heads, 1, 1), initializer="ones", name="temperature")

    def call(self, x):
        _, height, width, channels = x.shape
        depth = channels // (3 * self.heads)
        parts = ops.transpose(ops.reshape(x, (-1, height * width, 3, self.heads, depth)), (2, 0, 3, 4, 1))
        q, k, v = _of_length_one(parts[0]), _of_length_one(parts[1]), parts[2]  # [B, h, d, T]
        scores = ops.cast(ops.matmul(q, ops.transpose(k, (0, 1, 3, 2))), "float32")
        weights = ops.softmax(scores * ops.cast(self.temperature, "float32"))
        together = ops.matmul(ops.cast(weights, v.dtype), v)
        return ops.reshape(ops.transpose(together, (0, 3, 1, 2)), (-1, height, width, self.heads * depth))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], input_shape[-1] // 3)

    def get_config(self):
        return {**super().get_config(), "heads": self.heads}


def _of_length_one(x):
    exact = ops.cast(x, "float32")
    squares = ops.sum(exact * exact, axis=-1, keepdims=True)
    return ops.cast(exact * ops.rsqrt(ops.maximum(squares, _LEAST**2)), x.dtype)


@keras.saving.register_keras_serializable("dico_tf")
class ClassAttention(keras.layers.Layer):
    """softmax(q k' / sqrt(d)) v of every head: one query [B, 1, h d], keys and values [B, T, h d] -> [B, 1, h d]."""

    def __init__(self, heads: int, **options):
        super().__init__(**options)
        self.heads = heads

    def call(self, inputs):
        depth = inputs[0].shape[-1] // self.heads
        q, k, v = (
            ops.transpose(ops.reshape(x, (-1, x.shape[1], self.heads, depth)), (0, 2, 1, 3)) for x in inputs
        )  # [B, h, T, d]
        return ops.reshape(attended(q, k, v), (-1, 1, self.heads * depth))

    def compute_output_shape(self, input_shape):
        return input_shape[0]

    def get_config(self):
        return {**super().get_config(), "heads": self.heads}


@keras.saving.register_keras_serializable("dico_tf")
class FourierPlaces(keras.layers.Layer):
    """x [B, H, W, C] + sines and cosines of its rows and columns times a learnt kernel [waves, C], and a bias."""

    def build(self, input_shape):
        options = {"initializer": uniform(1 / math.sqrt(2 * WAVES)), "trainable": True}
        self.kernel = self.add_weight(shape=(2 * WAVES, input_shape[-1]), name="kernel", **options)
        self.bias = self.add_weight(shape=input_shape[-1:], name="bias", **options)
        self.kernel.decays = False

    def call(self, x):
        _, height, width, channels = x.shape
        known = ops.cast(ops.convert_to_tensor(waves(height, width).reshape(-1, 2 * WAVES)), x.dtype)
        places = ops.matmul(known, ops.convert_to_tensor(self.kernel)) + self.bias
        return x + ops.reshape(places, (1, height, width, channels))

    def compute_output_shape(self, input_shape):
        return input_shape


def waves(height: int, width: int) -> np.ndarray:
    """float32 [H, W, 64]: of the row, then of the column, sin and cos in turn of 2 pi (i + 1) / n at falling speeds."""
    speeds = _SLOWEST ** -(2 * (np.arange(WAVES) // 2) / WAVES)
    turn = [2 * math.pi * np.arange(1, side + 1)[:, None] / (side + 1e-6) * speeds for side in (height, width)]
    rows, columns = (np.where(np.arange(WAVES) % 2, np.cos(angles), np.sin(angles)) for angles in turn)
    shape = (height, width, WAVES)
    both = [np.broadcast_to(rows[:, None], shape), np.broadcast_to(columns[None], shape)]
    return np.concatenate(both, axis=-1).astype(np.float32)
