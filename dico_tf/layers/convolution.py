"""2D convolutions with the padding and initialisation of the published networks, and layers that pad."""

import functools
import math

import keras
from keras import ops


@keras.saving.register_keras_serializable("dico_tf")
class GroupedConvolution(keras.layers.Conv2D):
    """Grouped Conv2D in one TensorFlow operation. Keras' own compiles by XLA, which is slow on CPUs and hard to serve.

    With another backend, or with channels first, it is Keras' own.
    """

    def convolution_op(self, inputs, kernel):
        if keras.backend.backend() != "tensorflow" or self.data_format != "channels_last":
            return super().convolution_op(inputs, kernel)
        import tensorflow as tf

        return tf.nn.conv2d(inputs, kernel, self.strides, self.padding.upper(), dilations=self.dilation_rate)


@functools.cache
def _dilates_gradients() -> bool:
    """Return True if TensorFlow can differentiate a dilated convolution here; CPUs cannot without oneDNN."""
    import tensorflow as tf

    with tf.init_scope(), tf.GradientTape() as tape:
        x, kernel = tf.ones((1, 5, 5, 4)), tf.ones((3, 3, 4, 4))
        tape.watch((x, kernel))
        y = tf.nn.conv2d(x, kernel, 1, "SAME", dilations=2)
        try:
            tape.gradient(y, (x, kernel))
        except tf.errors.OpError:
            return False
    return True


@keras.saving.register_keras_serializable("dico_tf")
class DilatedConvolution(keras.layers.Conv2D):
    """Dilated Conv2D in one TensorFlow operation.

    Keras moves pixels into the batch and back, which is slower and fails for maps whose size is not known in advance.
    With another backend, with channels first, or in training on CPUs without oneDNN, this layer is Keras' own.
    """

    def call(self, inputs, training=False):
        ours = keras.backend.backend() == "tensorflow" and self.data_format == "channels_last"
        if not ours or (training and not _dilates_gradients()):
            return super().call(inputs)
        import tensorflow as tf

        kernel = tf.convert_to_tensor(self.kernel)
        y = tf.nn.conv2d(inputs, kernel, self.strides, self.padding.upper(), dilations=self.dilation_rate)
        return self.activation(tf.nn.bias_add(y, tf.convert_to_tensor(self.bias)) if self.use_bias else y)


@keras.saving.register_keras_serializable("dico_tf")
class Pointwise(keras.layers.Conv2D):
    """1x1 Conv2D without strides. In training by TensorFlow it is a matrix product, with a faster gradient on CPUs."""

    def call(self, inputs, training=False):
        if not training or keras.backend.backend() != "tensorflow":
            return super().call(inputs)
        import tensorflow as tf

        kernel = tf.convert_to_tensor(self.kernel)[0, 0]
        y = tf.matmul(tf.reshape(inputs, (-1, kernel.shape[0])), kernel)
        y = tf.reshape(y, tf.concat([tf.shape(inputs)[:-1], [self.filters]], axis=0))
        y = tf.ensure_shape(y, (*inputs.shape[:-1], self.filters))
        y = tf.nn.bias_add(y, tf.convert_to_tensor(self.bias)) if self.use_bias else y
        return self.activation(y)


def padded(x, kernel: int, stride: int, name: str, padding: str = "symmetric"):
    """Return (x, the `padding` of the Keras layer) for a convolution with (kernel - 1) / 2 zeros on every side.

    If the convolution strides, x is padded here, by a layer "<name>_pad". padding="same" leaves it to TensorFlow, which
    pads less at the top and left if the layer strides over an even size.
    """
    if stride == 1 or kernel == 1 or padding == "same":
        return x, "same"
    return keras.layers.ZeroPadding2D((kernel - 1) // 2, name=f"{name}_pad")(x), "valid"


def convolution(
    x, filters: int, kernel: int, name: str, stride: int = 1, groups: int = 1, padding: str = "symmetric", **options
):
    """Apply a kernel x kernel convolution, by default without bias; starts at N(0, variance 2 / (kernel^2 filters)).

    Args:
        padding: "symmetric", or "same" as TensorFlow pads; see `padded`.
        options: further arguments of Conv2D.
    """
    x, padding = padded(x, kernel, stride, name, padding)
    kind = GroupedConvolution if groups > 1 else Pointwise if kernel == stride == 1 else keras.layers.Conv2D
    kind = DilatedConvolution if options.get("dilation_rate", 1) > 1 else kind
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


def depthwise(x, kernel: int, name: str, stride: int = 1, padding: str = "symmetric"):
    """Apply a kernel x kernel depthwise convolution without bias; starts at N(0, variance 2 / (kernel^2 channels)).

    Args:
        padding: "symmetric", or "same" as TensorFlow pads; see `padded`.
    """
    channels = x.shape[-1]
    x, padding = padded(x, kernel, stride, name, padding)
    start = keras.initializers.RandomNormal(stddev=math.sqrt(2 / (kernel * kernel * channels)))
    return keras.layers.DepthwiseConv2D(
        kernel, strides=stride, padding=padding, use_bias=False, depthwise_initializer=start, name=name
    )(x)


@keras.saving.register_keras_serializable("dico_tf")
class ZeroChannels(keras.layers.Layer):
    """Appends `count` channels of zeros to [B, H, W, C]."""

    def __init__(self, count: int, **options):
        super().__init__(**options)
        self.count = count

    def call(self, x):
        return ops.pad(x, ((0, 0), (0, 0), (0, 0), (0, self.count)))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], input_shape[-1] + self.count)

    def get_config(self):
        return {**super().get_config(), "count": self.count}


def shifted(x, name: str):
    """Shift maps one pixel up and to the left, with zeros at the bottom and right."""
    x = keras.layers.Cropping2D(((1, 0), (1, 0)), name=f"{name}_crop")(x)
    return keras.layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"{name}_pad")(x)
