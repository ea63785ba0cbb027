"""Convolutions of clips [B, T, H, W, C], frame by frame in operations that CPUs and devices know.

Their padding "same" is (kernel - 1) / 2 zeros on every side also where they stride; Keras' own pads far sides only.
"""

import math

import keras
from keras import ops


def frames(x):
    """[B, T, H, W, C] -> [B T, H, W, C]."""
    return ops.reshape(x, (-1, *ops.shape(x)[2:]))


def clips(x, batch, count):
    """[B T, H, W, C] -> [B, T, H, W, C]; the batch is left open where the number of frames is known."""
    known = isinstance(count, int)
    return ops.reshape(x, (-1 if known else batch, count if known else -1, *ops.shape(x)[1:]))


class _Clips(keras.layers.Conv3D):
    """No stride in time, no dilation, odd kernels where the padding is `same`."""

    def __init__(self, filters, kernel_size, **options):
        super().__init__(filters, kernel_size, **options)
        if self.strides[0] != 1 or set(self.dilation_rate) != {1} or self.data_format != "channels_last":
            raise ValueError(f"{type(self).__name__} knows neither strides in time nor dilation nor channels_first")
        if self.padding == "same" and any(size % 2 == 0 for size in self.kernel_size):
            raise ValueError(f"kernel_size={self.kernel_size} has an even side, which padding='same' cannot centre")

    def _of_frames(self, x, operation, kernel):
        """operation(frames, kernel, strides, padding) on every frame by itself."""
        batch, count = ops.shape(x)[:2]
        strides, padding, x = self.strides[1:], self.padding, frames(x)
        if padding == "same" and max(strides) > 1:
            x = ops.pad(x, ((0, 0), *((size // 2,) * 2 for size in self.kernel_size[1:]), (0, 0)))
            padding = "valid"
        return clips(operation(x, kernel, strides, padding), batch, count)


@keras.saving.register_keras_serializable("dico_tf")
class FrameConvolution(_Clips):
    """Conv3D whose kernel is one frame deep; of one pixel, a product of matrices."""

    def __init__(self, filters, kernel_size, **options):
        super().__init__(filters, kernel_size, **options)
        if self.kernel_size[0] != 1 or self.groups != 1:
            raise ValueError(f"kernel_size={self.kernel_size}, groups={self.groups}: one frame and one group are known")

    def convolution_op(self, inputs, kernel):
        if max(self.kernel_size) == max(self.strides) == 1:
            shape = ops.shape(inputs)
            y = ops.matmul(ops.reshape(inputs, (-1, inputs.shape[-1])), kernel[0, 0, 0])
            return ops.reshape(y, (*_one_open(shape[:-1]), self.filters))
        return self._of_frames(inputs, _convolved, kernel[0])


def _one_open(shape) -> tuple:
    """The batch as -1 where all other sizes are known."""
    return (-1, *shape[1:]) if all(isinstance(size, int) for size in shape[1:]) else tuple(shape)


def _convolved(x, kernel, strides, padding):
    return ops.conv(x, kernel, strides, padding)


def _by_channel(x, kernel, strides, padding):
    """Kernel [H, W, 1, C]; of one pixel, a multiplication."""
    if kernel.shape[0] == kernel.shape[1] == max(strides) == 1:
        return x * kernel[0, 0, 0]
    return ops.depthwise_conv(x, ops.swapaxes(kernel, 2, 3), strides, padding)


@keras.saving.register_keras_serializable("dico_tf")
class ChannelwiseConvolution(_Clips):
    """Conv3D on each channel by itself, kernel [T, H, W, 1, C]: one depthwise convolution for each of its frames.

    y[i] = sum_t depthwise(x[i + t - (T - 1) / 2], kernel[t]): the results are shifted, not what goes in, since this
    has the cheaper gradient. Keras' grouped Conv3D needs XLA on CPUs and takes ten times as long.
    """

    def __init__(self, filters, kernel_size, groups=None, **options):
        super().__init__(filters, kernel_size, groups=filters, **options)
        if groups not in (None, filters):
            raise ValueError(f"groups={groups}: each of the {filters} channels is a group")

    def convolution_op(self, inputs, kernel):
        depth = self.kernel_size[0]
        parts = [self._of_frames(inputs, _by_channel, kernel[t]) for t in range(depth)]
        if self.padding == "valid":
            shifted = [part[:, t : -(depth - 1 - t) or None] for t, part in enumerate(parts)]
        else:
            shifted = [_moved(part, depth // 2 - t) for t, part in enumerate(parts)]
        return sum(shifted[1:], shifted[0])


def _moved(x, by: int):
    """`by` frames later, zeros before them; a negative number: earlier, zeros after them."""
    if not by:
        return x
    if isinstance(x.shape[1], int) and abs(by) >= x.shape[1]:
        return ops.zeros_like(x)
    kept = x[:, :-by] if by > 0 else x[:, -by:]
    return ops.pad(kept, ((0, 0), (max(by, 0), max(-by, 0)), (0, 0), (0, 0), (0, 0)))


@keras.saving.register_keras_serializable("dico_tf")
class Mean(keras.layers.Layer):
    """The mean over some axes, which go."""

    def __init__(self, axes, **options):
        super().__init__(**options)
        self.axes = tuple(axes)

    def call(self, x):
        return ops.mean(x, axis=self.axes)

    def compute_output_shape(self, input_shape):
        return tuple(size for axis, size in enumerate(input_shape) if axis not in self.axes)

    def get_config(self):
        return {**super().get_config(), "axes": self.axes}


def start(kernel: tuple[int, int, int], channels: int):
    """N(0, 2 / (kernel entries x channels)), also of channelwise kernels, whose channels PyTorch counts so."""
    return keras.initializers.RandomNormal(stddev=math.sqrt(2 / (math.prod(kernel) * channels)))


def convolution(x, filters: int, name: str, window: int = 1, stride: int = 1, **options):
    """1 x window x window, no bias unless asked for."""
    kernel = (1, window, window)
    options = {"use_bias": False, "kernel_initializer": start(kernel, filters), **options}
    layer = FrameConvolution(filters, kernel, strides=(1, stride, stride), padding="same", name=name, **options)
    return layer(x)


def channelwise(x, kernel: tuple[int, int, int], name: str, stride: int = 1):
    """Each channel by itself, no bias."""
    channels = x.shape[-1]
    first = start(kernel, channels)
    strides = (1, stride, stride)
    layer = ChannelwiseConvolution(
        channels, kernel, strides=strides, padding="same", use_bias=False, kernel_initializer=first, name=name
    )
    return layer(x)


def squeeze_excite(x, squeezed: int, name: str):
    """x * sigmoid(W2 relu(W1 mean(x))), the mean over frames and pixels, the two 1x1x1 convolutions with bias."""
    y = keras.layers.GlobalAveragePooling3D(keepdims=True, name=f"{name}_pool")(x)
    y = convolution(y, squeezed, f"{name}_reduce", use_bias=True)
    y = keras.layers.Activation("relu", name=f"{name}_relu")(y)
    y = convolution(y, x.shape[-1], f"{name}_expand", use_bias=True)
    y = keras.layers.Activation("sigmoid", name=f"{name}_sigmoid")(y)
    return keras.layers.Multiply(name=f"{name}_scale")([x, y])
