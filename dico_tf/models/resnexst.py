"""ResNeXSt for ImageNet: grouped bottlenecks with split attention of radix 2, after ResNeSt (Zhang et al. 2020)."""

import functools

import keras

from dico_tf.divide.rules import multiple
from dico_tf.layers.channel_attention import split_attention
from dico_tf.layers.convolution import convolution
from dico_tf.layers.image_input import Normalisation, entrance, head
from dico_tf.layers.normalisation import batch_norm
from dico_tf.models import residual
from dico_tf.models.family import Family
from dico_tf.models.residual import BLOCKS, relu
from dico_tf.models.resnext import GRID, Spec, divide, narrow, stages

PRESETS = {
    "resnexst_tiny": Spec(blocks=(1, 1, 1, 1), groups=2, base_width=32, width=16),
    "resnexst_50_4x16d": Spec(blocks=BLOCKS[50], groups=4, base_width=16),
    "resnexst_50_8x16d": Spec(blocks=BLOCKS[50], groups=8, base_width=16),
    "resnexst_50_4x32d": Spec(blocks=BLOCKS[50], groups=4, base_width=32),
    "resnexst_101_8x32d": Spec(blocks=BLOCKS[101], groups=8, base_width=32),
}


def build(spec: Spec, image_size: int, classes: int, normalisation: Normalisation = Normalisation()) -> keras.Model:
    """Return the network from raw images to logits."""
    image, x = entrance(image_size, normalisation)
    width = multiple(spec.width, GRID)
    x = residual.pooled_without_border(residual.deep_stem(x, width, 2 * width))
    block = functools.partial(bottleneck, base_width=spec.base_width, groups=spec.groups)
    x = residual.stages(x, block, stages(spec), spec.blocks, lambda stage, _: {"pool": stage > 0})
    return keras.Model(image, head(x, classes), name="resnexst")


def bottleneck(x, planes: int, stride: int, name: str, *, base_width: float, groups: int, pool: bool):
    """Return relu(shortcut + y), with 4 * planes channels.

    y applies 1x1 convolution, BN, relu, split attention, pooling, 1x1 and BN to x.

    Args:
        base_width, groups: as in `residual.bottleneck`.
        pool: whether to apply 3x3 average pooling with the stride; the first stage does not.
    """
    m = residual.middle(planes, base_width, groups)
    y = relu(batch_norm(convolution(x, m, 1, f"{name}_conv1"), f"{name}_norm1"), f"{name}_relu1")
    y = split_attention(y, m, groups, f"{name}_split")
    if pool:
        y = keras.layers.ZeroPadding2D(1, name=f"{name}_pool_pad")(y)  # the border counts in the average
        y = keras.layers.AveragePooling2D(3, stride, name=f"{name}_pool")(y)
    y = batch_norm(convolution(y, 4 * planes, 1, f"{name}_conv2"), f"{name}_norm2")
    y = keras.layers.Add(name=f"{name}_add")([residual.shortcut(x, 4 * planes, stride, name), y])
    return relu(y, f"{name}_relu2")


FAMILY = Family(
    name="resnexst",
    title="ResNeXSt",
    presets=PRESETS,
    build=build,
    narrow=narrow,
    divide=divide,
    stages=stages,
)
