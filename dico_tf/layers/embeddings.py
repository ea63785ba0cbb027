"""Position embeddings, class tokens and scales of residual branches for transformers, and reshapes of tokens."""

import math

import keras
import numpy as np
from keras import ops

from dico_tf.layers.image_input import uniform
from dico_tf.layers.resizing import bicubic

START = 0.02  # standard deviation; PyTorch truncates at 2, a hundred deviations away, which changes nothing
WAVES = 32  # sines and cosines of rows, and as many of columns
_SLOWEST = 10000.0


def normal():
    """Return the initialiser N(0, variance 0.02^2)."""
    return keras.initializers.RandomNormal(stddev=START)


@keras.saving.register_keras_serializable("dico_tf")
class Positions(keras.layers.Layer):
    """Learnt position embedding: adds a table [h, w, C] to x [B, h, w, C]."""

    def build(self, input_shape):
        self.table = self.add_weight(shape=input_shape[1:], initializer=normal(), name="table")
        self.table.places = True

    def call(self, x):
        return x + self.table

    def compute_output_shape(self, input_shape):
        return input_shape


def resize_positions(variable, array: np.ndarray) -> np.ndarray:
    """Return `array` for loading into `variable`; resize it (bicubic) if it is a position table of another grid."""
    positions = getattr(variable, "places", False) and array.ndim == 3 and array.shape[-1] == variable.shape[-1]
    return bicubic(array, tuple(variable.shape[:2])) if positions and array.shape != variable.shape else array


@keras.saving.register_keras_serializable("dico_tf")
class ClassToken(keras.layers.Layer):
    """Prepends a learnt class token, [B, T, C] -> [B, 1 + T, C].

    With `placed`, a learnt position embedding is added to the token.
    """

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
    """The first token, [B, T, C] -> [B, C]."""

    def call(self, x):
        return x[:, 0]

    def compute_output_shape(self, input_shape):
        return (input_shape[0], input_shape[-1])


@keras.saving.register_keras_serializable("dico_tf")
class PatchMap(keras.layers.Layer):
    """Tokens [B, 1 + h w, C] as a map [B, h, w, C] with `sides` (h, w); leaves out the first, the class token."""

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
    """Multiplies each channel by a learnt scale, which begins at `start` (LayerScale, Touvron et al. 2021)."""

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


@keras.saving.register_keras_serializable("dico_tf")
class FourierPlaces(keras.layers.Layer):
    """Fourier position embedding of XCiT: x [B, H, W, C] + W waves(H, W) + b, with learnt W and b."""

    def build(self, input_shape):
        options = {"initializer": uniform(1 / math.sqrt(2 * WAVES)), "trainable": True}
        self.kernel = self.add_weight(shape=(2 * WAVES, input_shape[-1]), name="kernel", **options)
        self.bias = self.add_weight(shape=input_shape[-1:], name="bias", **options)
        self.kernel.decays = False

    def call(self, x):
        _, height, width, channels = x.shape
        table = ops.cast(ops.convert_to_tensor(waves(height, width).reshape(-1, 2 * WAVES)), x.dtype)
        positions = ops.matmul(table, ops.convert_to_tensor(self.kernel)) + self.bias
        return x + ops.reshape(positions, (1, height, width, channels))

    def compute_output_shape(self, input_shape):
        return input_shape


def waves(height: int, width: int) -> np.ndarray:
    """Return float32 [H, W, 64]: 32 sines and cosines of the row, then 32 of the column.

    For row i of n, counted from 0, value j is the sine (even j) or cosine (odd j) of
    2 pi (i + 1) / n * 10000^(-floor(j / 2) / 16).
    """
    speeds = _SLOWEST ** -(2 * (np.arange(WAVES) // 2) / WAVES)
    turn = [2 * math.pi * np.arange(1, side + 1)[:, None] / (side + 1e-6) * speeds for side in (height, width)]
    rows, columns = (np.where(np.arange(WAVES) % 2, np.cos(angles), np.sin(angles)) for angles in turn)
    shape = (height, width, WAVES)
    both = [np.broadcast_to(rows[:, None], shape), np.broadcast_to(columns[None], shape)]
    return np.concatenate(both, axis=-1).astype(np.float32)
