"""Parts of segmentation networks: heads, the auxiliary head of training, and sliding windows over large images."""

import keras

from dico_tf.layers.convolution import convolution
from dico_tf.layers.normalisation import batch_norm
from dico_tf.layers.resizing import ResizeAs
from dico_tf.models.residual import relu


def unit(x, width: int, kernel: int, name: str, dilation: int = 1):
    """Apply relu(BN(kernel x kernel convolution)), with `width` channels."""
    x = convolution(x, width, kernel, f"{name}_conv", dilation_rate=dilation)
    return relu(batch_norm(x, f"{name}_norm"), f"{name}_relu")


def logits(x, classes: int, name: str = "logits"):
    """Apply a 1x1 convolution that gives float32 logits of all classes."""
    start = keras.initializers.TruncatedNormal(stddev=0.01)
    return convolution(x, classes, 1, name, use_bias=True, kernel_initializer=start, dtype="float32")


def as_large(x, image):
    """Resize logits to the size of the image, bilinearly."""
    return ResizeAs(name="as_large_as_the_picture", dtype="float32")([x, image])


def coarse(branch: keras.Model) -> keras.Model:
    """Return the branch without its last resizing, to logits [B, h, w, C] at the output stride. Layers are shared."""
    return keras.Model(branch.input, branch.get_layer("logits").output, name=branch.name)


def learner(branch: keras.Model, x, width: int) -> keras.Model:
    """Return the branch with an auxiliary head, `width` wide, on its map x, used only in training.

    Its outputs are the logits of the branch's own head and of the auxiliary head, each at its own stride. It shares its
    layers with the branch.
    """
    first = branch.get_layer("logits").output
    x = unit(x, width, 3, "auxiliary")
    x = keras.layers.Dropout(0.1, name="auxiliary_dropout")(x)
    return keras.Model(branch.input, [first, logits(x, first.shape[-1], "logits_auxiliary")], name=branch.name)


def window_step(window: int, stride: int) -> int:
    """Return the pixels from one window to the next: half a window, rounded down to a multiple of the output stride.

    It is at least the output stride.
    """
    return max(window // 2 // stride, 1) * stride


def round_up(side, stride: int):
    """Return the side, rounded up to a multiple of the stride; works for tensors too."""
    return -(-side // stride) * stride


def windows_along(side, window: int, stride: int):
    """Return the number of windows along a side; the last window ends where the side does. Works for tensors too.

    The side must be a multiple of the stride and at least `window`.
    """
    return -(-(side - window) // window_step(window, stride)) + 1


def count_windows(sides: tuple[int, int], window: int, stride: int) -> int:
    """Return the number of windows that cover an image of sides (H, W).

    Neighbouring windows are `window_step` apart, the last two perhaps less. The sides are first rounded up to multiples
    of the stride and at least to one window.

    Args:
        window: side of a square window in pixels.
        stride: output stride of the network.
    """
    rows, columns = (windows_along(max(round_up(side, stride), window), window, stride) for side in sides)
    return rows * columns
