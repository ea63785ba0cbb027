"""Convolutions with the published padding and initialisation."""

import math

import keras

CHANNELS = -1


def convolution(x, filters: int, kernel: int, name: str, stride: int = 1):
    """kernel x kernel, no bias, (kernel - 1) / 2 zeros on every side also where it strides; N(0, 2 / (k k out))."""
    padding = "same"
    if stride > 1 and kernel > 1:  # TensorFlow's "same" would pad the far sides only
        x = keras.layers.ZeroPadding2D((kernel - 1) // 2, name=f"{name}_pad")(x)
        padding = "valid"
    deviation = math.sqrt(2 / (kernel * kernel * filters))
    return keras.layers.Conv2D(
        filters,
        kernel,
        strides=stride,
        padding=padding,
        use_bias=False,
        kernel_initializer=keras.initializers.RandomNormal(stddev=deviation),
        name=name,
    )(x)
