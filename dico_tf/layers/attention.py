"""Attention layers without projections: the dense layers around them are separate, so that each has its own name.

Only CrossCovariance has a weight, its temperature.
"""

import math

import keras
from keras import ops

from dico_tf.errors import UserError

_LEAST = 1e-12  # a shorter query or key is not scaled to length 1


def check_heads(channels: int, heads: int) -> None:
    """Raise UserError if the channels do not divide into queries, keys and values of this many heads."""
    if channels % (3 * heads):
        raise UserError(f"expected channels in multiples of {3 * heads} (q, k and v of {heads} heads), got {channels}")


def attended(q, k, v):
    """Return softmax(q k' / sqrt(d)) v, softmax in float32: q [B, h, Q, d], k and v [B, h, T, d] -> [B, Q, h, d]."""
    scores = ops.matmul(q * (1 / math.sqrt(q.shape[-1])), ops.transpose(k, (0, 1, 3, 2)))
    weights = ops.cast(ops.softmax(ops.cast(scores, "float32")), v.dtype)
    return ops.transpose(ops.matmul(weights, v), (0, 2, 1, 3))


@keras.saving.register_keras_serializable("dico_tf")
class Attention(keras.layers.Layer):
    """Multi-head attention, softmax(q k' / sqrt(d)) v: q, k and v of all heads, [B, T, 3 h d] -> [B, T, h d].

    The channels are in the order [q, k, v], each [h, d].
    """

    def __init__(self, heads: int, **options):
        super().__init__(**options)
        self.heads = heads

    def build(self, input_shape):
        check_heads(input_shape[-1], self.heads)

    def call(self, x):
        _, tokens, width = ops.shape(x)
        depth = width // (3 * self.heads)
        parts = ops.transpose(ops.reshape(x, (-1, tokens, 3, self.heads, depth)), (2, 0, 3, 1, 4))
        q, k, v = parts[0], parts[1], parts[2]  # [B, h, T, d]
        return ops.reshape(attended(q, k, v), (-1, tokens, self.heads * depth))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], input_shape[-1] // 3)

    def get_config(self):
        return {**super().get_config(), "heads": self.heads}


def self_attention(x, heads: int, depth: int, name: str, start="glorot_uniform", biased: bool = True):
    """Apply multi-head self-attention to x [B, T, C]: dense to q, k and v, attention, dense back to C channels.

    Args:
        depth: channels of each head.
        start: initialiser of both kernels.
        biased: whether the first dense layer has a bias; the second always has one.
    """
    options = {"kernel_initializer": start}
    y = keras.layers.Dense(3 * heads * depth, use_bias=biased, name=f"{name}_qkv", **options)(x)
    y = Attention(heads, name=f"{name}_products")(y)
    return keras.layers.Dense(x.shape[-1], name=f"{name}_projection", **options)(y)


@keras.saving.register_keras_serializable("dico_tf")
class CrossCovariance(keras.layers.Layer):
    """Cross-covariance attention of XCiT (El-Nouby et al. 2021): [B, H, W, 3 h d] -> [B, H, W, h d].

    Each channel attends to the channels of its head: softmax(t q' k) v', with q, k and v [H W, d] of one head. Each
    column of q and k, which is one channel, is scaled to length 1. The factor t of each head is learnt.
    """

    def __init__(self, heads: int, **options):
        super().__init__(**options)
        self.heads = heads

    def build(self, input_shape):
        check_heads(input_shape[-1], self.heads)
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
    """Scale the vectors on the last axis to length 1."""
    exact = ops.cast(x, "float32")
    squares = ops.sum(exact * exact, axis=-1, keepdims=True)
    return ops.cast(exact * ops.rsqrt(ops.maximum(squares, _LEAST**2)), x.dtype)


@keras.saving.register_keras_serializable("dico_tf")
class ClassAttention(keras.layers.Layer):
    """Attention softmax(q k' / sqrt(d)) v of one class token, [q, k, v] -> [B, 1, h d].

    Shapes: q [B, 1, h d], k and v [B, T, h d].
    """

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
