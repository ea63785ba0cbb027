"""Attention between channels: squeeze and excitation (Hu et al. 2018), split attention (Zhang et al. 2020)."""

import keras
from keras import ops

from dico_tf.layers.convolution import convolution
from dico_tf.layers.normalisation import batch_norm

RADIX = 2  # of split attention


def squeeze_excite(x, squeezed: int, name: str, activation: str = "relu"):
    """Apply squeeze and excitation: x * sigmoid(W2 activation(W1 mean(x))), both 1x1 convolutions with bias.

    Args:
        squeezed: channels between W1 and W2.
    """
    channels = x.shape[-1]
    y = keras.layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_pool")(x)
    y = convolution(y, squeezed, 1, f"{name}_reduce", use_bias=True)
    y = keras.layers.Activation(activation, name=f"{name}_{activation}")(y)
    y = convolution(y, channels, 1, f"{name}_expand", use_bias=True)
    y = keras.layers.Activation("sigmoid", name=f"{name}_sigmoid")(y)
    return keras.layers.Multiply(name=f"{name}_scale")([x, y])


@keras.saving.register_keras_serializable("dico_tf")
class Halves(keras.layers.Layer):
    """Sum of the two halves of the channels, [B, H, W, 2m] -> [B, H, W, m]."""

    def call(self, x):
        return sum(ops.split(x, RADIX, axis=-1))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], input_shape[-1] // RADIX)


@keras.saving.register_keras_serializable("dico_tf")
class WeighedHalves(keras.layers.Layer):
    """Weighted sum of the two halves of the channels, [x, scores] -> [B, H, W, m].

    Shapes: x [B, H, W, 2m], scores [B, 1, 1, 2m]. The two weights of a channel are the softmax of its two scores.
    Scores are in the order [groups, 2, m / groups].
    """

    def __init__(self, groups: int, **options):
        super().__init__(**options)
        self.groups = groups

    def call(self, inputs):
        x, scores = inputs
        width = x.shape[-1] // RADIX
        scores = ops.reshape(scores, (-1, self.groups, RADIX, width // self.groups))
        weights = ops.transpose(ops.softmax(scores, axis=2), (0, 2, 1, 3))
        weights = ops.reshape(weights, (-1, 1, 1, RADIX * width))
        return sum(ops.split(x * weights, RADIX, axis=-1))

    def compute_output_shape(self, input_shape):
        shape = input_shape[0]
        return (*shape[:-1], shape[-1] // RADIX)

    def get_config(self):
        return {**super().get_config(), "groups": self.groups}


def split_attention(x, width: int, groups: int, name: str):
    """Apply split attention of radix 2, and return m = `width` channels.

    A 3x3 convolution in 2 x `groups` groups, BN and ReLU give 2 m channels, in two halves x1 and x2. The result is
    a1 x1 + a2 x2, where (a1, a2) = softmax(W2 relu(BN(W1 mean(x1 + x2)))) over the two halves, for each channel. W1 and
    W2 are 1x1 convolutions in `groups` groups, with a bias.
    """
    x = convolution(x, RADIX * width, 3, f"{name}_conv", groups=RADIX * groups)
    x = keras.layers.Activation("relu", name=f"{name}_relu")(batch_norm(x, f"{name}_norm"))
    y = Halves(name=f"{name}_sum")(x)
    y = keras.layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_pool")(y)
    y = convolution(y, squeezed(width, groups), 1, f"{name}_reduce", groups=groups, use_bias=True)
    y = keras.layers.Activation("relu", name=f"{name}_reduce_relu")(batch_norm(y, f"{name}_reduce_norm"))
    y = convolution(y, RADIX * width, 1, f"{name}_expand", groups=groups, use_bias=True)
    return WeighedHalves(groups, name=f"{name}_weigh")([x, y])


def squeezed(width: int, groups: int) -> int:
    """Return the channels between W1 and W2: half of `width`, at least 32, rounded up to a multiple of `groups`."""
    least = max(RADIX * width // 4, 32)
    return -(-least // groups) * groups
