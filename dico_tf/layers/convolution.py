"""Convolutions with the published padding and initialisation."""

import math

import keras


@keras.saving.register_keras_serializable("dico_tf")
class GroupedConvolution(keras.layers.Conv2D):
    """Conv2D whose groups are one TensorFlow operation; Keras has XLA compile them: slow on CPUs, refused by servers"""

    def convolution_op(self, inputs, kernel):
        if keras.backend.backend() != "tensorflow" or self.data_format != "channels_last":
            return super().convolution_op(inputs, kernel)
        import tensorflow as tf

        return tf.nn.conv2d(inputs, kernel, self.strides, self.padding.upper(), dilations=self.dilation_rate)


def padded(x, kernel: int, stride: int, name: str):
    """(images, padding): (kernel - 1) / 2 zeros on every side also where a layer strides.

    TensorFlow's own "same" would pad the far sides only.
    """
    if stride == 1 or kernel == 1:
        return x, "same"
    return keras.layers.ZeroPadding2D((kernel - 1) // 2, name=f"{name}_pad")(x), "valid"


def convolution(x, filters: int, kernel: int, name: str, stride: int = 1, groups: int = 1, **options):
    """kernel x kernel, no bias unless asked for; starts at N(0, 2 / (kernel kernel filters))."""
    x, padding = padded(x, kernel, stride, name)
    kind = GroupedConvolution if groups > 1 else keras.layers.Conv2D
    start = keras.initializers.RandomNormal(stddev=math.sqrt(2 / (kernel * kernel * filters)))
    return kind(
        filters,
        kernel,
        strides=stride,
        padding=padding,
        groups=groups,
        name=name,
        **{"use_bias": False, "kernel_initializer": start, **options},
    )(x)
