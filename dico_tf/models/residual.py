"""Residual blocks that ResNet and WRN share: post-activation, the last gamma of a branch starts at zero."""

import keras

from dico_tf.layers.convolution import convolution
from dico_tf.layers.normalisation import batch_norm


def relu(x, name: str):
    return keras.layers.Activation("relu", name=name)(x)


def stem(x, width: int):
    """3x3 -> width, BN, ReLU."""
    x = convolution(x, width, 3, "stem_conv")
    return relu(batch_norm(x, "stem_norm"), "stem_relu")


def shortcut(x, width: int, stride: int, name: str):
    """Identity, or [2x2 average pool,] 1x1, BN where the shape changes."""
    if stride == 1 and x.shape[-1] == width:
        return x
    if stride > 1:
        x = keras.layers.AveragePooling2D(stride, padding="same", name=f"{name}_shortcut_pool")(x)
    x = convolution(x, width, 1, f"{name}_shortcut_conv")
    return batch_norm(x, f"{name}_shortcut_norm")


def basic(x, planes: int, stride: int, name: str):
    """relu(shortcut + BN(3x3(relu(BN(3x3)))))."""
    y = convolution(x, planes, 3, f"{name}_conv1", stride)
    y = relu(batch_norm(y, f"{name}_norm1"), f"{name}_relu1")
    y = convolution(y, planes, 3, f"{name}_conv2")
    y = batch_norm(y, f"{name}_norm2", gamma="zeros")
    y = keras.layers.Add(name=f"{name}_add")([shortcut(x, planes, stride, name), y])
    return relu(y, f"{name}_relu2")


def bottleneck(x, planes: int, stride: int, name: str):
    """relu(shortcut + BN(1x1(relu(BN(3x3(relu(BN(1x1))))))), four times as wide at its end."""
    y = convolution(x, planes, 1, f"{name}_conv1")
    y = relu(batch_norm(y, f"{name}_norm1"), f"{name}_relu1")
    y = convolution(y, planes, 3, f"{name}_conv2", stride)
    y = relu(batch_norm(y, f"{name}_norm2"), f"{name}_relu2")
    y = convolution(y, 4 * planes, 1, f"{name}_conv3")
    y = batch_norm(y, f"{name}_norm3", gamma="zeros")
    y = keras.layers.Add(name=f"{name}_add")([shortcut(x, 4 * planes, stride, name), y])
    return relu(y, f"{name}_relu3")


def stages(x, block, planes: int, blocks: tuple[int, ...]):
    """Stage i has planes * 2^i and, but for the first, begins with stride 2."""
    for i, count in enumerate(blocks):
        for j in range(count):
            stride = 2 if i and not j else 1
            x = block(x, planes * 2**i, stride, f"stage{i + 1}_block{j + 1}")
    return x
