"""ResNet, ResNeXt and SENet-154 with squeeze and excitation (Hu et al. 2018)."""

import dataclasses
import functools

import keras

from dico_tf.divide.rules import evenly, lookup, multiple
from dico_tf.layers.channel_attention import squeeze_excite
from dico_tf.layers.convolution import convolution
from dico_tf.layers.drop_path import DropBlock, DropPath
from dico_tf.layers.image_input import Normalisation, entrance, head
from dico_tf.layers.normalisation import batch_norm
from dico_tf.models import narrowing, residual
from dico_tf.models.family import BaseSpec, Family
from dico_tf.models.narrowing import narrow_groups, splits_of
from dico_tf.models.residual import BLOCKS, relu

WIDTHS = {  # of the stem by S, for networks without groups
    "cifar": {1: 16, 2: 12, 4: 8},
    "imagenet": {1: 64, 2: 44, 4: 32, 8: 24},
}
REDUCTION = {"cifar": 4, "imagenet": 16}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spec(BaseSpec):
    blocks: tuple[int, ...]  # of each stage
    width: float = 16  # of the stem
    grid: int = 1  # widths are multiples of this
    planes: tuple[int, ...] = ()  # of each stage, if a budget chose them one by one
    groups: int = 1
    base_width: float = 64  # of a group, in a stage of 64 planes
    stem: str = "even"  # widths of its three convolutions: even = w, w, w; widening = w, w, 2w
    block: str = "bottleneck"  # or senet: first 1x1 half as wide, 3x3 shortcuts where it strides
    dropout: float = 0.0  # before the dense layer
    drop_path: float = 0.0  # p: block i of n, from 1, has the drop rate p i / (n + 1)
    drop_block: float = 0.0  # drop rate in stages 3 and 4

    @property
    def layout(self) -> str:
        return residual.layout(self.blocks)

    @property
    def splits(self) -> tuple[int, ...]:
        return tuple(WIDTHS[self.layout]) if self.groups == 1 else splits_of(self.groups)


def _imagenet(blocks: tuple[int, ...], **options) -> Spec:
    return Spec(blocks=blocks, width=64, dropout=0.2, **options)


PRESETS = {
    "se_resnet_tiny": Spec(blocks=(1, 1, 1)),
    "se_resnet_110": Spec(blocks=(12, 12, 12)),
    "se_resnet_164": Spec(blocks=(18, 18, 18)),
    "se_resnet_50": _imagenet(BLOCKS[50]),
    "se_resnet_101": _imagenet(BLOCKS[101]),
    "se_resnet_152": _imagenet(BLOCKS[152]),
    "se_resnext_101_64x4d": _imagenet(BLOCKS[101], groups=64, base_width=4),
    "se_resnext_101_64x4d_b": _imagenet(BLOCKS[101], groups=64, base_width=4, stem="widening"),
    "senet_154": _imagenet(BLOCKS[152], groups=64, base_width=4, stem="widening", block="senet"),
}


def divide(spec: Spec, splits: int) -> Spec:
    """Divide the number of groups by S; without groups, reduce the stem's width, and all widths with it.

    For CIFAR the stem becomes 16 -> 12, 8 for S = 2, 4; for ImageNet 64 -> 44, 32, 24 for S = 2, 4, 8. Raises UserError
    for another S, or if S does not divide the groups evenly.
    """
    if spec.groups > 1:
        return dataclasses.replace(spec, groups=evenly(spec.groups, splits, "groups"))
    width = lookup(WIDTHS[spec.layout], splits, f"an SE-ResNet of {sum(spec.blocks)} blocks")
    return dataclasses.replace(spec, width=width)


def narrow(spec: Spec, scale: float) -> Spec:
    """Return the Spec with its widths scaled, in multiples of 4 channels; a grouped 3x3 gets fewer groups instead."""
    spec = dataclasses.replace(spec, grid=4)
    return (
        narrow_groups(spec, scale)
        if spec.groups > 1
        else dataclasses.replace(spec, width=narrowing.stem_width(spec.width, scale))
    )


def stages(spec: Spec) -> list[int]:
    """Return the planes of each stage; its blocks end 4 * planes wide."""
    return residual.widths(spec.width, len(spec.blocks), spec.grid, spec.planes)


def build(spec: Spec, image_size: int, classes: int, normalisation: Normalisation = Normalisation()) -> keras.Model:
    """Return the network from raw images to logits."""
    image, x = entrance(image_size, normalisation)
    width = multiple(spec.width, spec.grid)
    if spec.layout == "cifar":
        x = residual.stem(x, width)
    else:
        x = residual.deep_stem(x, width, 2 * width if spec.stem == "widening" else width)
        x = residual.pooled_without_border(x)
    build_block = {"bottleneck": residual.bottleneck, "senet": _senet}[spec.block]
    block = functools.partial(
        build_block,
        base_width=spec.base_width,
        groups=spec.groups,
        gamma="ones",
    )

    def by_place(stage: int, number: int) -> dict:
        """Return the arguments `finish` and `norm` of a block.

        `finish` includes DropPath with the rate spec.drop_path * (number + 1) / (n + 1), for n blocks in the network.
        From the third stage on, `norm` includes DropBlock; its squares have 3x3 pixels at image size 224 and grow with
        the image size.

        Args:
            stage: index of the block's stage, from 0.
            number: index of the block among those of all stages, from 0.
        """
        drop_path = spec.drop_path * (number + 1) / (sum(spec.blocks) + 1)
        squares = (spec.drop_block if stage >= 2 else 0.0, max(3 * image_size // 224, 1))
        return {"finish": _finish(REDUCTION[spec.layout], drop_path), "norm": _norm(*squares)}

    x = residual.stages(x, block, stages(spec), spec.blocks, by_place)
    return keras.Model(image, head(x, classes, spec.dropout), name="se_resnet")


def _finish(reduction: int, drop_path: float):
    """Return the function (y, name) -> y that ends a residual branch: squeeze and excitation, then drop path."""

    def finish(y, name: str):
        y = squeeze_excite(y, y.shape[-1] // reduction, f"{name}_se")
        return DropPath(drop_path, name=f"{name}_drop_path")(y) if drop_path else y

    return finish


def _norm(drop_block: float, size: int):
    """Return the function (x, name, ...) -> x for batch normalisation; if `drop_block` is not 0, DropBlock follows.

    Args:
        drop_block: drop rate.
        size: side in pixels of the squares that DropBlock drops.
    """
    if not drop_block:
        return batch_norm

    def norm(x, name: str, **options):
        x = batch_norm(x, name, **options)
        return DropBlock(drop_block, size, name=f"{name}_drop_block")(x)

    return norm


def _senet(x, planes: int, stride: int, name: str, *, base_width: float, groups: int, gamma: str, norm, finish):
    """Apply the bottleneck of SENet-154.

    Its first 1x1 is half as wide as its 3x3. If it strides, its shortcut is a 3x3 convolution.
    """
    m = residual.middle(planes, base_width, groups)
    half = max(m // 2 // groups, 1) * groups
    y = relu(norm(convolution(x, half, 1, f"{name}_conv1"), f"{name}_norm1"), f"{name}_relu1")
    y = relu(norm(convolution(y, m, 3, f"{name}_conv2", stride, groups), f"{name}_norm2"), f"{name}_relu2")
    y = finish(norm(convolution(y, 4 * planes, 1, f"{name}_conv3"), f"{name}_norm3", gamma=gamma), name)
    if stride > 1:
        x = batch_norm(convolution(x, 4 * planes, 3, f"{name}_shortcut_conv", stride), f"{name}_shortcut_norm")
    else:
        x = residual.shortcut(x, 4 * planes, 1, name)
    return relu(keras.layers.Add(name=f"{name}_add")([x, y]), f"{name}_relu3")


FAMILY = Family(
    name="se_resnet",
    title="SE-ResNet",
    presets=PRESETS,
    build=build,
    narrow=narrow,
    divide=divide,
    stages=stages,
    regularisation={"dropout": "sqrt(S)", "drop_path": "sqrt(S)", "drop_block": "sqrt(S)"},
)
