"""Squeeze and excitation (Hu et al. 2018)."""

import keras

from dico_tf.layers.convolution import convolution


def squeeze_excite(x, squeezed: int, name: str, activation: str = "relu"):
    """x * sigmoid(W2 activation(W1 mean(x))), the two 1x1 convolutions with bias."""
    channels = x.shape[-1]
    y = keras.layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_pool")(x)
    y = convolution(y, squeezed, 1, f"{name}_reduce", use_bias=True)
    y = keras.layers.Activation(activation, name=f"{name}_{activation}")(y)
    y = convolution(y, channels, 1, f"{name}_expand", use_bias=True)
    y = keras.layers.Activation("sigmoid", name=f"{name}_sigmoid")(y)
    return keras.layers.Multiply(name=f"{name}_scale")([x, y])
