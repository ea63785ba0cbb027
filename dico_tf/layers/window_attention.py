"""Layers of Swin (Liu et al. 2021): attention within windows, and merging of 2x2 neighbours."""

import math

import keras
import numpy as np
from keras import ops

from dico_tf.errors import UserError
from dico_tf.layers.attention import check_heads
from dico_tf.layers.embeddings import normal

_FAR = -100.0  # added to the scores of tokens that only the shift brought into one window, as published


@keras.saving.register_keras_serializable("dico_tf")
class WindowAttention(keras.layers.Layer):
    """Multi-head attention within windows, softmax(q k' / sqrt(d) + bias) v: [B, H, W, 3 h d] -> [B, H, W, h d].

    The bias is learnt for each head and each offset between two tokens of a window. Windows begin `shift` tokens
    further down and right, and the last ones wrap around to the start of the map. Tokens from the end and from the
    start do not attend to each other.

    Args:
        window, shift: rows and columns, in tokens.
    """

    def __init__(self, heads: int, window: tuple[int, int], shift: tuple[int, int] = (0, 0), **options):
        super().__init__(**options)
        self.heads, self.window, self.shift = heads, tuple(window), tuple(shift)

    def build(self, input_shape):
        _, *map_sides, width = input_shape
        check_heads(width, self.heads)
        if any(side % part for side, part in zip(map_sides, self.window, strict=True)):
            raise UserError(
                f"expected a map whose sides are multiples of the window's, {self.window}, got {map_sides}; pad it"
            )
        offsets = [2 * side - 1 for side in self.window]
        self.table = self.add_weight(shape=(*offsets, self.heads), initializer=normal(), name="table")
        self.table.places = True

    def call(self, x):
        _, height, width, channels = x.shape
        tokens, depth = math.prod(self.window), channels // (3 * self.heads)
        x = self._windows(_rolled(x, self.shift))
        parts = ops.transpose(ops.reshape(x, (-1, tokens, 3, self.heads, depth)), (2, 0, 3, 1, 4))
        q, k, v = parts[0], parts[1], parts[2]  # [B * windows, h, T, d]
        scores = ops.matmul(q * (1 / math.sqrt(depth)), ops.transpose(k, (0, 1, 3, 2)))
        scores = self._biased(ops.cast(scores, "float32"), (height, width))
        together = ops.matmul(ops.cast(ops.softmax(scores), v.dtype), v)
        together = ops.reshape(ops.transpose(together, (0, 2, 1, 3)), (-1, tokens, self.heads * depth))
        return _rolled(self._map(together, height, width), [-s for s in self.shift])

    def _windows(self, x):
        """Cut maps [B, H, W, C] into windows [B * windows, T, C]."""
        _, height, width, channels = x.shape
        rows, columns = self.window
        x = ops.reshape(x, (-1, height // rows, rows, width // columns, columns * channels))
        return ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4)), (-1, rows * columns, channels))

    def _map(self, x, height: int, width: int):
        """Join windows [B * windows, T, C] to maps [B, height, width, C]."""
        rows, columns = self.window
        x = ops.reshape(x, (-1, height // rows, width // columns, rows, columns * x.shape[-1]))
        return ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4)), (-1, height, width, x.shape[-1] // columns))

    def _biased(self, scores, map_sides: tuple[int, int]):
        """Add the learnt bias to scores [B * windows, h, T, T].

        If windows are shifted, also add -100 between tokens that come from different ends of the map.
        """
        tokens = scores.shape[-1]
        table = ops.reshape(ops.convert_to_tensor(self.table), (-1, self.heads))
        bias = ops.take(table, offset_numbers(self.window).ravel(), axis=0)
        bias = ops.transpose(ops.reshape(bias, (tokens, tokens, self.heads)), (2, 0, 1))
        bias = ops.cast(bias, "float32")
        if not any(self.shift):
            return scores + bias
        apart = different_ends(map_sides, self.window, self.shift)  # [windows, T, T]
        bias = bias + ops.convert_to_tensor(_FAR * apart[:, None].astype(np.float32))
        bias = ops.reshape(bias, (-1, tokens, tokens))  # [windows * h, T, T]
        scores = ops.reshape(scores, (-1, len(apart) * self.heads, tokens, tokens)) + bias
        return ops.reshape(scores, (-1, self.heads, tokens, tokens))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], input_shape[-1] // 3)

    def get_config(self):
        return {**super().get_config(), "heads": self.heads, "window": self.window, "shift": self.shift}


def offset_numbers(window: tuple[int, int]) -> np.ndarray:
    """Return int32 [T, T]: at [i, j] the index of the offset from token j to token i of a window.

    It is an index into the flattened table of all offsets, (2 rows - 1) x (2 columns - 1).
    """
    places = np.stack(np.meshgrid(*map(np.arange, window), indexing="ij")).reshape(2, -1)
    down, right = places[:, :, None] - places[:, None, :]
    rows, columns = window
    return ((down + rows - 1) * (2 * columns - 1) + right + columns - 1).astype(np.int32)


def different_ends(map_sides: tuple[int, int], window: tuple[int, int], shift: tuple[int, int]) -> np.ndarray:
    """Return bool [windows, T, T]: True if two tokens of a shifted window come from different ends of the map."""
    ends = [np.arange(side) >= side - by for side, by in zip(map_sides, shift, strict=True)]
    part = 2 * ends[0][:, None] + ends[1][None, :]
    rows, columns = window
    part = part.reshape(map_sides[0] // rows, rows, map_sides[1] // columns, columns).transpose(0, 2, 1, 3)
    part = part.reshape(-1, rows * columns)
    return part[:, :, None] != part[:, None, :]


def _rolled(x, by: tuple[int, int]):
    """Roll maps [B, H, W, C] so that they begin at row and column `by`; the part before moves to the end."""
    for axis, start in enumerate(by, 1):
        if start % x.shape[axis]:
            before, after = ops.split(x, [start % x.shape[axis]], axis=axis)
            x = ops.concatenate([after, before], axis=axis)
    return x


def window_attention(x, heads: int, depth: int, window: int, shifted: bool, name: str, start):
    """Apply self-attention within windows to x [B, H, W, C]: dense to q, k and v, attention, dense back to C channels.

    Maps that the window does not divide are padded with zeros at the bottom and right; the result is cropped. A side no
    longer than the window is one window, without shift.

    Args:
        depth: channels of each head.
        window: side of a window, in tokens.
        shifted: move the windows by half their side.
        start: initialiser of both kernels.
    """
    sides = x.shape[1:3]
    windows = tuple(min(window, side) for side in sides)
    shift = tuple(part // 2 if shifted and side > part else 0 for side, part in zip(sides, windows, strict=True))
    spare = [(0, -side % part) for side, part in zip(sides, windows, strict=True)]
    y = keras.layers.ZeroPadding2D(spare, name=f"{name}_pad")(x) if any(map(any, spare)) else x
    y = keras.layers.Dense(3 * heads * depth, kernel_initializer=start, name=f"{name}_qkv")(y)
    y = WindowAttention(heads, windows, shift, name=f"{name}_products")(y)
    if any(map(any, spare)):
        y = keras.layers.Cropping2D(spare, name=f"{name}_crop")(y)
    return keras.layers.Dense(x.shape[-1], kernel_initializer=start, name=f"{name}_projection")(y)


@keras.saving.register_keras_serializable("dico_tf")
class Neighbours(keras.layers.Layer):
    """Concatenates the channels of 2x2 neighbours: [B, H, W, C] -> [B, H / 2, W / 2, 4 C].

    Their order is top left, bottom left, top right, bottom right.
    Maps with odd sides are padded with a row or column of zeros at the bottom or right.
    """

    def call(self, x):
        rows, columns = (side % 2 for side in x.shape[1:3])
        if rows or columns:
            x = ops.pad(x, ((0, 0), (0, rows), (0, columns), (0, 0)))
        return ops.concatenate([x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)], axis=-1)

    def compute_output_shape(self, input_shape):
        batch, height, width, channels = input_shape
        return (batch, -(-height // 2), -(-width // 2), 4 * channels)
