"""Self-attention between dense layers of one's own, so that every weight has a layer and a name by itself."""

import math

import keras
from keras import ops

from dico_tf.errors import UserError


def attended(q, k, v):
    """softmax(q k' / sqrt(d)) v, the softmax in float32: [B, h, Q, d], twice [B, h, T, d] -> [B, Q, h, d]."""
    scores = ops.matmul(q * (1 / math.sqrt(q.shape[-1])), ops.transpose(k, (0, 1, 3, 2)))
    weights = ops.cast(ops.softmax(ops.cast(scores, "float32")), v.dtype)
    return ops.transpose(ops.matmul(weights, v), (0, 2, 1, 3))


@keras.saving.register_keras_serializable("dico_tf")
class Attention(keras.layers.Layer):
    """softmax(q k' / sqrt(d)) v of every head: queries, keys and values side by side [B, T, 3 h d] -> [B, T, h d]."""

    def __init__(self, heads: int, **options):
        super().__init__(**options)
        self.heads = heads

    def build(self, input_shape):
        if input_shape[-1] % (3 * self.heads):
            raise UserError(f"{input_shape[-1]} channels are no queries, keys and values of {self.heads} heads")

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
    """Dense to queries, keys and values of `heads` heads `depth` wide; attention; dense to the width of x."""
    options = {"kernel_initializer": start}
    y = keras.layers.Dense(3 * heads * depth, use_bias=biased, name=f"{name}_qkv", **options)(x)
    y = Attention(heads, name=f"{name}_products")(y)
    return keras.layers.Dense(x.shape[-1], name=f"{name}_projection", **options)(y)
