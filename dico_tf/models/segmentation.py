"""What networks that say the class of each pixel end in, and the second head that only training knows."""

import keras

from dico_tf.layers.convolution import convolution
from dico_tf.layers.normalisation import batch_norm
from dico_tf.layers.resizing import ResizeAs
from dico_tf.models.residual import relu


def unit(x, width: int, kernel: int, name: str, dilation: int = 1):
    """relu(BN(kernel x kernel))"""
    x = convolution(x, width, kernel, f"{name}_conv", dilation_rate=dilation)
    return relu(batch_norm(x, f"{name}_norm"), f"{name}_relu")


def logits(x, classes: int, name: str = "logits"):
    start = keras.initializers.TruncatedNormal(stddev=0.01)
    return convolution(x, classes, 1, name, use_bias=True, kernel_initializer=start, dtype="float32")


def as_large(x, image):
    """Logits as large as the picture."""
    return ResizeAs(name="as_large_as_the_picture", dtype="float32")([x, image])


def coarse(branch: keras.Model) -> keras.Model:
    """The branch as its training and its predictions see it: logits [B, h, w, C] at the output stride."""
    return keras.Model(branch.input, branch.get_layer("logits").output, name=branch.name)


def learner(branch: keras.Model, x, width: int) -> keras.Model:
    """The branch with a second head on its map x, which only training knows: logits of both at their strides."""
    first = branch.get_layer("logits").output
    x = unit(x, width, 3, "auxiliary")
    x = keras.layers.Dropout(0.1, name="auxiliary_dropout")(x)
    return keras.Model(branch.input, [first, logits(x, first.shape[-1], "logits_auxiliary")], name=branch.name)


def window_step(window: int, stride: int) -> int:
    """Pixels from one window to the next."""
    return max(window // 2 // stride, 1) * stride


def round_up(side, stride: int):
    """The side, up to a whole number of places."""
    return -(-side // stride) * stride


def windows_along(side, window: int, stride: int):
    """Windows along a side that is whole and no shorter than one; the last ends where the side does."""
    return -(-(side - window) // window_step(window, stride)) + 1


def count_windows(sides: tuple[int, int], window: int, stride: int) -> int:
    """Of a picture [H, W]."""
    rows, columns = (windows_along(max(round_up(side, stride), window), window, stride) for side in sides)
    return rows * columns
