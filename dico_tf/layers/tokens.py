"""What transformers learn beside their dense layers: places, a class token, scales of residual branches."""

import keras
import numpy as np
from keras import ops

from dico_tf.layers import bicubic

START = 0.02  # deviation; PyTorch cuts it off at 2, a hundred deviations away, so it is a normal distribution


def normal():
    return keras.initializers.RandomNormal(stddev=START)


@keras.saving.register_keras_serializable("dico_tf")
class Positions(keras.layers.Layer):
    """x [B, h, w, C] + a learnt table [h, w, C]."""

    def build(self, input_shape):
        self.table = self.add_weight(shape=input_shape[1:], initializer=normal(), name="table")
        self.table.places = True

    def call(self, x):
        return x + self.table

    def compute_output_shape(self, input_shape):
        return input_shape


def fitted(variable, array: np.ndarray) -> np.ndarray:
    """The array as the variable takes it: a table of places that was learnt for another grid is resized to its own."""
    places = getattr(variable, "places", False) and array.ndim == 3 and array.shape[-1] == variable.shape[-1]
    return bicubic.resized(array, tuple(variable.shape[:2])) if places and array.shape != variable.shape else array


@keras.saving.register_keras_serializable("dico_tf")
class ClassToken(keras.layers.Layer):
    """A learnt token before the others: [B, T, C] -> [B, 1 + T, C]; `placed` adds a place of its own to it."""

    def __init__(self, placed: bool = False, **options):
        super().__init__(**options)
        self.placed = placed

    def build(self, input_shape):
        self.token = self.add_weight(shape=input_shape[-1:], initializer=normal(), name="token")
        if self.placed:
            self.place = self.add_weight(shape=input_shape[-1:], initializer=normal(), name="place")

    def call(self, x):
        token = self.token + self.place if self.placed else ops.convert_to_tensor(self.token)
        first = ops.broadcast_to(ops.cast(token, x.dtype), (ops.shape(x)[0], 1, x.shape[-1]))
        return ops.concatenate([first, x], axis=1)

    def compute_output_shape(self, input_shape):
        batch, tokens, width = input_shape
        return (batch, tokens + 1, width)

    def get_config(self):
        return {**super().get_config(), "placed": self.placed}


@keras.saving.register_keras_serializable("dico_tf")
class FirstToken(keras.layers.Layer):
    """[B, T, C] -> [B, C]"""

    def call(self, x):
        return x[:, 0]

    def compute_output_shape(self, input_shape):
        return (input_shape[0], input_shape[-1])


@keras.saving.register_keras_serializable("dico_tf")
class PatchMap(keras.layers.Layer):
    """Tokens [B, 1 + h w, C] -> the map [B, h, w, C] without the first."""

    def __init__(self, sides: tuple[int, int], **options):
        super().__init__(**options)
        self.sides = tuple(sides)

    def call(self, x):
        return ops.reshape(x[:, 1:], (-1, *self.sides, x.shape[-1]))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *self.sides, input_shape[-1])

    def get_config(self):
        return {**super().get_config(), "sides": self.sides}


@keras.saving.register_keras_serializable("dico_tf")
class LayerScale(keras.layers.Layer):
    """x times a learnt number of each channel (Touvron et al. 2021)."""

    def __init__(self, start: float, **options):
        super().__init__(**options)
        self.start = start

    def build(self, input_shape):
        start = keras.initializers.Constant(self.start)
        self.scale = self.add_weight(shape=input_shape[-1:], initializer=start, name="scale")

    def call(self, x):
        return x * self.scale

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "start": self.start}
