"""Stems, shortcuts and blocks that the ResNet-like families share (activation after the addition)."""

import itertools
from collections.abc import Sequence

import keras

from dico_tf.divide.rules import multiple
from dico_tf.layers.convolution import convolution
from dico_tf.layers.normalisation import batch_norm

BLOCKS = {
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}  # ImageNet networks: blocks of each stage by depth


def layout(blocks: Sequence[int]) -> str:
    """Return the kind of images for these blocks per stage: cifar for three stages, imagenet for any other number."""
    return "cifar" if len(blocks) == 3 else "imagenet"


def widths(width: float, count: int, step: int, planes: Sequence[int] = ()) -> list[int]:
    """Return `planes` if there are any, else width * 2^i for `count` stages i from 0, in multiples of `step`."""
    return list(planes) or [multiple(width * 2**i, step) for i in range(count)]


def relu(x, name: str):
    """Apply the activation ReLU."""
    return keras.layers.Activation("relu", name=name)(x)


def stem(x, width: int, name: str = "stem", stride: int = 1):
    """Apply a 3x3 convolution to `width` channels, BN and ReLU."""
    x = convolution(x, width, 3, f"{name}_conv", stride)
    return relu(batch_norm(x, f"{name}_norm"), f"{name}_relu")


def deep_stem(x, width: int, last: int):
    """Apply three 3x3 convolutions with BN and ReLU to `width`, `width` and `last` channels; the first has stride 2."""
    x = stem(x, width, "stem1", stride=2)
    return stem(stem(x, width, "stem2"), last, "stem3")


def widening_stem(x, width: int):
    """Apply `deep_stem` to width, width and 2 * width channels, then 3x3 maximum pooling with stride 2.

    The pooling has a border of one pixel.
    """
    x = deep_stem(x, width, 2 * width)
    x = keras.layers.ZeroPadding2D(1, name="stem_pool_pad")(x)  # after a ReLU, zeros never change a maximum
    return keras.layers.MaxPooling2D(3, 2, name="stem_pool")(x)


def plain_stem(x, width: int):
    """Apply a 7x7 convolution to `width` channels with stride 2, BN and ReLU; then 3x3 maximum pooling with stride 2.

    The pooling has a border of one pixel.
    """
    x = relu(batch_norm(convolution(x, width, 7, "stem_conv", 2), "stem_norm"), "stem_relu")
    x = keras.layers.ZeroPadding2D(1, name="stem_pool_pad")(x)  # after a ReLU, zeros never change a maximum
    return keras.layers.MaxPooling2D(3, 2, name="stem_pool")(x)


def pooled_without_border(x):
    """Apply 3x3 maximum pooling with stride 2, without a border; the last window may reach over the edge."""
    reaches_over = x.shape[1] % 2 == 0
    return keras.layers.MaxPooling2D(3, 2, padding="same" if reaches_over else "valid", name="stem_pool")(x)


def shortcut(x, width: int, stride: int, name: str):
    """Return x if the shape stays; else apply 2x2 average pooling if the block strides, 1x1 convolution and BN."""
    if stride == 1 and x.shape[-1] == width:
        return x
    if stride > 1:
        x = keras.layers.AveragePooling2D(stride, padding="same", name=f"{name}_shortcut_pool")(x)
    x = convolution(x, width, 1, f"{name}_shortcut_conv")
    return batch_norm(x, f"{name}_shortcut_norm")


def striding_shortcut(x, width: int, stride: int, name: str):
    """Return x if the shape stays; else apply a 1x1 convolution with the stride and BN, as torchvision does."""
    if stride == 1 and x.shape[-1] == width:
        return x
    return batch_norm(convolution(x, width, 1, f"{name}_shortcut_conv", stride), f"{name}_shortcut_norm")


def basic(x, planes: int, stride: int, name: str):
    """Return relu(shortcut + y); y applies 3x3 convolution with the stride, BN, relu, 3x3 and BN to x."""
    y = convolution(x, planes, 3, f"{name}_conv1", stride)
    y = relu(batch_norm(y, f"{name}_norm1"), f"{name}_relu1")
    y = convolution(y, planes, 3, f"{name}_conv2")
    y = batch_norm(y, f"{name}_norm2", gamma="zeros")
    y = keras.layers.Add(name=f"{name}_add")([shortcut(x, planes, stride, name), y])
    return relu(y, f"{name}_relu2")


def middle(planes: int, base_width: float, groups: int) -> int:
    """Return the width of a bottleneck's 3x3: floor(planes * base_width / 64) * groups, at least 1 per group."""
    return max(int(planes * base_width / 64), 1) * groups


def bottleneck(
    x,
    planes: int,
    stride: int,
    name: str,
    *,
    base_width: float = 64,
    groups: int = 1,
    gamma="zeros",
    norm=batch_norm,
    finish=None,
    dilation: int = 1,
    shortcut=shortcut,
):
    """Return relu(shortcut + y), with 4 * planes channels.

    y applies 1x1 convolution, BN, relu, 3x3 with the stride, BN, relu, 1x1, BN and `finish` to x.

    Args:
        base_width: channels of each group of the 3x3 if `planes` is 64; they grow in proportion to `planes`.
        gamma: initialiser of the last normalisation's factors.
        norm: (x, name, and for the last one gamma) -> x, the normalisation.
        finish: (x, name) -> x, the end of the residual branch; None = nothing.
        dilation: of the 3x3.
        shortcut: (x, width, stride, name) -> what is added to y.
    """
    m = middle(planes, base_width, groups)
    y = convolution(x, m, 1, f"{name}_conv1")
    y = relu(norm(y, f"{name}_norm1"), f"{name}_relu1")
    y = convolution(y, m, 3, f"{name}_conv2", stride, groups, dilation_rate=dilation)
    y = relu(norm(y, f"{name}_norm2"), f"{name}_relu2")
    y = convolution(y, 4 * planes, 1, f"{name}_conv3")
    y = norm(y, f"{name}_norm3", gamma=gamma)
    y = finish(y, name) if finish else y
    y = keras.layers.Add(name=f"{name}_add")([shortcut(x, 4 * planes, stride, name), y])
    return relu(y, f"{name}_relu3")


def stages(x, block, planes: Sequence[int], blocks: Sequence[int], by_place=lambda stage, number: {}):
    """Apply the blocks of all stages to x; every stage but the first begins with stride 2.

    Args:
        block: (x, planes, stride, name, further arguments) -> x.
        planes, blocks: planes and number of blocks of each stage.
        by_place: (stage, number of the block among all), both from 0 -> further arguments of that block.
    """
    numbers = itertools.count()
    for i, count in enumerate(blocks):
        for j in range(count):
            stride = 2 if i and not j else 1
            x = block(x, planes[i], stride, f"stage{i + 1}_block{j + 1}", **by_place(i, next(numbers)))
    return x
