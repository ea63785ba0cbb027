"""3D convolutions of clips [B, T, H, W, C], computed frame by frame by 2D operations that every device has.

Padding "same" means (kernel - 1) / 2 zeros on every side, even with strides, where Keras may pad one side less.
"""

import math

import keras
from keras import ops


def frames(x):
    """Reshape clips [B, T, H, W, C] to frames [B T, H, W, C]."""
    return ops.reshape(x, (-1, *ops.shape(x)[2:]))


def clips(x, batch, count):
    """Reshape frames [B T, H, W, C] to clips [B, T, H, W, C].

    Args:
        batch, count: B and T. The reshape uses one and infers the other: it uses T if T is an int, else B.
    """
    known = isinstance(count, int)
    return ops.reshape(x, (-1 if known else batch, count if known else -1, *ops.shape(x)[1:]))


class _Clips(keras.layers.Conv3D):
    """Base of channels-last Conv3D layers that have no stride in time and no dilation.

    If the padding is `same`, kernels must have odd sides. Other arguments raise ValueError.
    """

    def __init__(self, filters, kernel_size, **options):
        super().__init__(filters, kernel_size, **options)
        if self.strides[0] != 1 or set(self.dilation_rate) != {1} or self.data_format != "channels_last":
            raise ValueError(
                f"expected no strides in time, no dilation and channels_last, got strides={self.strides}, "
                f"dilation_rate={self.dilation_rate}, {self.data_format}"
            )
        if self.padding == "same" and any(size % 2 == 0 for size in self.kernel_size):
            raise ValueError(f"padding='same': expected a kernel with odd sides, got kernel_size={self.kernel_size}")

    def _of_frames(self, x, operation, kernel):
        """Apply operation(frames, kernel, strides, padding) to the frames of the clips x, and return clips."""
        batch, count = ops.shape(x)[:2]
        strides, padding, x = self.strides[1:], self.padding, frames(x)
        if padding == "same" and max(strides) > 1:
            x = ops.pad(x, ((0, 0), *((size // 2,) * 2 for size in self.kernel_size[1:]), (0, 0)))
            padding = "valid"
        return clips(operation(x, kernel, strides, padding), batch, count)


@keras.saving.register_keras_serializable("dico_tf")
class FrameConvolution(_Clips):
    """Conv3D with a kernel one frame deep; a 1x1x1 kernel without strides is a matrix product."""

    def __init__(self, filters, kernel_size, **options):
        super().__init__(filters, kernel_size, **options)
        if self.kernel_size[0] != 1 or self.groups != 1:
            raise ValueError(
                f"expected a kernel one frame deep and one group, got {self.kernel_size} and groups={self.groups}"
            )

    def convolution_op(self, inputs, kernel):
        if max(self.kernel_size) == max(self.strides) == 1:
            shape = ops.shape(inputs)
            y = ops.matmul(ops.reshape(inputs, (-1, inputs.shape[-1])), kernel[0, 0, 0])
            return ops.reshape(y, (*_one_open(shape[:-1]), self.filters))
        return self._of_frames(inputs, _convolved, kernel[0])


def _one_open(shape) -> tuple:
    """Return a shape for a reshape: -1 replaces the batch if all other sizes are ints; else all sizes stay."""
    return (-1, *shape[1:]) if all(isinstance(size, int) for size in shape[1:]) else tuple(shape)


def _convolved(x, kernel, strides, padding):
    return ops.conv(x, kernel, strides, padding)


def _by_channel(x, kernel, strides, padding):
    """Apply a depthwise convolution with kernel [H, W, 1, C]; a 1x1 kernel without strides is a multiplication."""
    if kernel.shape[0] == kernel.shape[1] == max(strides) == 1:
        return x * kernel[0, 0, 0]
    return ops.depthwise_conv(x, ops.swapaxes(kernel, 2, 3), strides, padding)


@keras.saving.register_keras_serializable("dico_tf")
class ChannelwiseConvolution(_Clips):
    """Depthwise Conv3D, kernel [T, H, W, 1, C]: one 2D depthwise convolution for each frame of the kernel.

    With padding `same`, y[i] = sum_t depthwise(x[i + t - (T - 1) / 2], kernel[t]). The results are shifted instead of
    the inputs, which has the cheaper gradient. Keras' grouped Conv3D needs XLA on CPUs and takes ten times as long.

    Args:
        filters: the number of channels of the input.
        groups: None or the same number.
    """

    def __init__(self, filters, kernel_size, groups=None, **options):
        super().__init__(filters, kernel_size, groups=filters, **options)
        if groups not in (None, filters):
            raise ValueError(f"expected groups={filters}, one for each channel, got groups={groups}")

    def convolution_op(self, inputs, kernel):
        depth = self.kernel_size[0]
        parts = [self._of_frames(inputs, _by_channel, kernel[t]) for t in range(depth)]
        if self.padding == "valid":
            shifted = [part[:, t : -(depth - 1 - t) or None] for t, part in enumerate(parts)]
        else:
            shifted = [_moved(part, depth // 2 - t) for t, part in enumerate(parts)]
        return sum(shifted[1:], shifted[0])


def _moved(x, by: int):
    """Shift clips by this many frames, later if positive and earlier if negative, with zeros in the gap."""
    if not by:
        return x
    if isinstance(x.shape[1], int) and abs(by) >= x.shape[1]:
        return ops.zeros_like(x)
    rest = x[:, :-by] if by > 0 else x[:, -by:]
    return ops.pad(rest, ((0, 0), (max(by, 0), max(-by, 0)), (0, 0), (0, 0), (0, 0)))


@keras.saving.register_keras_serializable("dico_tf")
class Mean(keras.layers.Layer):
    """Mean over some axes, counted from the batch as axis 0; they are removed."""

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
    """Return the initialiser N(0, variance 2 / (T H W channels)) for a kernel (T, H, W), depthwise or not.

    Args:
        channels: output channels.
    """
    return keras.initializers.RandomNormal(stddev=math.sqrt(2 / (math.prod(kernel) * channels)))


def convolution(x, filters: int, name: str, window: int = 1, stride: int = 1, **options):
    """Apply a 1 x window x window convolution, by default without bias; it strides over rows and columns.

    Args:
        options: further arguments of Conv3D.
    """
    kernel = (1, window, window)
    options = {"use_bias": False, "kernel_initializer": start(kernel, filters), **options}
    layer = FrameConvolution(filters, kernel, strides=(1, stride, stride), padding="same", name=name, **options)
    return layer(x)


def channelwise(x, kernel: tuple[int, int, int], name: str, stride: int = 1):
    """Apply a depthwise convolution with a kernel (T, H, W), without bias; it strides over rows and columns."""
    channels = x.shape[-1]
    first = start(kernel, channels)
    strides = (1, stride, stride)
    layer = ChannelwiseConvolution(
        channels, kernel, strides=strides, padding="same", use_bias=False, kernel_initializer=first, name=name
    )
    return layer(x)


def squeeze_excite(x, squeezed: int, name: str):
    """Apply squeeze and excitation: x * sigmoid(W2 relu(W1 mean(x))), mean over frames and pixels.

    Args:
        squeezed: channels between W1 and W2, which are 1x1x1 convolutions with bias.
    """
    y = keras.layers.GlobalAveragePooling3D(keepdims=True, name=f"{name}_pool")(x)
    y = convolution(y, squeezed, f"{name}_reduce", use_bias=True)
    y = keras.layers.Activation("relu", name=f"{name}_relu")(y)
    y = convolution(y, x.shape[-1], f"{name}_expand", use_bias=True)
    y = keras.layers.Activation("sigmoid", name=f"{name}_sigmoid")(y)
    return keras.layers.Multiply(name=f"{name}_scale")([x, y])
