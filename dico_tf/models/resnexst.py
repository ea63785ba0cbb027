"""ResNeXSt for ImageNet: grouped bottlenecks with split attention of radix 2, after ResNeSt (Zhang et al. 2020)."""

import dataclasses
import functools

import keras

from dico_tf.divide.rules import evenly
from dico_tf.layers.convolution import convolution
from dico_tf.layers.image import Normalisation, entrance, head
from dico_tf.layers.normalisation import batch_norm
from dico_tf.layers.split_attention import split_attention
from dico_tf.models import residual
from dico_tf.models.groups import dividing, narrowed
from dico_tf.models.residual import BLOCKS, relu

_GRID = 4  # channels; published widths are on it


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spec:
    blocks: tuple[int, ...]  # of each stage
    groups: int
    base_width: float  # of a group, where the stage's planes are 64
    width: float = 64  # of the stem
    tilt: float = 0.0  # stages grow by 2 + tilt; a budget may need it

    layout = "imagenet"

    @property
    def splits(self) -> tuple[int, ...]:
        return dividing(self.groups)


PRESETS = {
    "resnexst_tiny": Spec(blocks=(1, 1, 1, 1), groups=2, base_width=32, width=16),
    "resnexst_50_4x16d": Spec(blocks=BLOCKS[50], groups=4, base_width=16),
    "resnexst_50_8x16d": Spec(blocks=BLOCKS[50], groups=8, base_width=16),
    "resnexst_50_4x32d": Spec(blocks=BLOCKS[50], groups=4, base_width=32),
    "resnexst_101_8x32d": Spec(blocks=BLOCKS[101], groups=8, base_width=32),
}


def regularised(spec: Spec, splits: int) -> Spec:
    return spec


def divide(spec: Spec, splits: int) -> Spec:
    """groups -> groups / S."""
    return dataclasses.replace(spec, groups=evenly(spec.groups, splits, "groups"))


def narrow(spec: Spec, scale: float) -> Spec:
    return narrowed(spec, scale)


def build(spec: Spec, image_size: int, classes: int, normalisation: Normalisation = Normalisation()) -> keras.Model:
    image, x = entrance(image_size, normalisation)
    planes = residual.widths(spec.width, len(spec.blocks), _GRID, spec.tilt)
    x = residual.pooled_without_border(residual.deep_stem(x, planes[0], 2 * planes[0]))
    block = functools.partial(bottleneck, base_width=spec.base_width, groups=spec.groups)
    x = residual.stages(x, block, planes, spec.blocks)
    return keras.Model(image, head(x, classes), name="resnexst")


def bottleneck(x, planes: int, stride: int, name: str, *, base_width: float, groups: int):
    """relu(shortcut + BN(1x1(pool(split attention(relu(BN(1x1))))))), pooled in every stage but the first."""
    m = residual.middle(planes, base_width, groups)
    y = relu(batch_norm(convolution(x, m, 1, f"{name}_conv1"), f"{name}_norm1"), f"{name}_relu1")
    y = split_attention(y, m, groups, f"{name}_split")
    if not name.startswith("stage1"):
        y = keras.layers.ZeroPadding2D(1, name=f"{name}_pool_pad")(y)  # the border counts in the mean
        y = keras.layers.AveragePooling2D(3, stride, name=f"{name}_pool")(y)
    y = batch_norm(convolution(y, 4 * planes, 1, f"{name}_conv2"), f"{name}_norm2")
    y = keras.layers.Add(name=f"{name}_add")([residual.shortcut(x, 4 * planes, stride, name), y])
    return relu(y, f"{name}_relu2")
