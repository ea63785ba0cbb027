"""Means over the parts of a map."""

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable("dico_tf")
class Parts(keras.layers.Layer):
    """[B, h, w, C] -> [B, n, n, C]: the mean over each of n x n equal parts, of all places a part touches.

    Keras' own layer fails within graphs where a map has fewer places than there are parts.
    """

    def __init__(self, count: int, **options):
        super().__init__(**options)
        self.count = count

    def call(self, x):
        _, height, width, channels = x.shape
        weights = np.kron(shares(height, self.count), shares(width, self.count))
        x = ops.matmul(ops.cast(weights, x.dtype), ops.reshape(x, (-1, height * width, channels)))
        return ops.reshape(x, (-1, self.count, self.count, channels))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.count, self.count, input_shape[-1])

    def get_config(self):
        return {**super().get_config(), "count": self.count}


def shares(side: int, count: int) -> np.ndarray:
    """[count, side]: part i is of the places floor(i side / count) to ceil((i + 1) side / count) - 1."""
    place, part = np.arange(side), np.arange(count)[:, None]
    there = (place >= part * side // count) & (place < -(-(part + 1) * side // count))
    return (there / there.sum(1, keepdims=True)).astype(np.float32)
