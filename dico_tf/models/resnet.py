"""ResNet of bottlenecks (He et al. 2015): three stages for CIFAR; a deep stem and four stages for ImageNet."""

import dataclasses
import functools

import keras

from dico_tf.divide.rules import lookup, multiple
from dico_tf.errors import UserError
from dico_tf.layers.image_input import Normalisation, entrance, head
from dico_tf.models import narrowing, residual
from dico_tf.models.family import BaseSpec, Family, WeightDecay
from dico_tf.models.residual import BLOCKS

WIDTHS = {  # of the stem, by S
    "cifar": {1: 16, 2: 12, 4: 8, 8: 6, 16: 4},
    "imagenet": {1: 64, 2: 44, 4: 32, 8: 24},
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spec(BaseSpec):
    blocks: tuple[int, ...]  # of each stage
    width: float = 16  # of the stem; stages end 4, 8, 16 (, 32) times as wide
    grid: int = 1  # widths are multiples of this
    planes: tuple[int, ...] = ()  # of each stage, if a budget chose them one by one
    dropout: float = 0.0  # before the dense layer only
    plain: bool = False  # a 7x7 stem and shortcuts that stride, as in torchvision

    @property
    def layout(self) -> str:
        return residual.layout(self.blocks)

    @property
    def splits(self) -> tuple[int, ...]:
        return tuple(WIDTHS[self.layout])


def cifar(depth: int) -> tuple[int, ...]:
    """Return (n, n, n), the blocks per stage of a CIFAR network of depth 9n + 2. Raises UserError at other depths."""
    if (depth - 2) % 9 or depth < 11:
        raise UserError(f"CIFAR ResNet: expected a depth of 9n + 2, e.g. 20, 56, 110 or 164, got {depth}")
    return ((depth - 2) // 9,) * 3


PRESETS = {
    "resnet_tiny": Spec(blocks=cifar(11)),
    "resnet_20": Spec(blocks=cifar(20)),
    "resnet_56": Spec(blocks=cifar(56)),
    "resnet_110": Spec(blocks=cifar(110)),
    "resnet_164": Spec(blocks=cifar(164)),
    "resnet_50": Spec(blocks=BLOCKS[50], width=64),
    "resnet_101": Spec(blocks=BLOCKS[101], width=64, dropout=0.1),
    "resnet_152": Spec(blocks=BLOCKS[152], width=64),
    "resnet_200": Spec(blocks=BLOCKS[200], width=64),
    **{f"resnet_{depth}_plain": Spec(blocks=blocks, width=64, plain=True) for depth, blocks in BLOCKS.items()},
}


def divide(spec: Spec, splits: int) -> Spec:
    """Reduce the stem's width, and all widths with it: for CIFAR 16 -> 12, 8, 6, 4 for S = 2, 4, 8, 16.

    For ImageNet 64 -> 44, 32, 24 for S = 2, 4, 8. S = 1 changes nothing; any other S raises UserError.
    """
    width = lookup(WIDTHS[spec.layout], splits, f"a ResNet of {sum(spec.blocks)} blocks")
    return dataclasses.replace(spec, width=width)


def narrow(spec: Spec, scale: float) -> Spec:
    """Multiply all widths by the scale, in multiples of 4 channels."""
    return dataclasses.replace(spec, width=narrowing.stem_width(spec.width, scale), grid=4)


def stages(spec: Spec) -> list[int]:
    """Return the planes of each stage; its blocks end 4 * planes wide."""
    return residual.widths(spec.width, len(spec.blocks), spec.grid, spec.planes)


def build(spec: Spec, image_size: int, classes: int, normalisation: Normalisation = Normalisation()) -> keras.Model:
    """Return the network from raw images to logits."""
    image, x = entrance(image_size, normalisation)
    width = multiple(spec.width, spec.grid)
    if spec.plain:
        x = residual.plain_stem(x, width)
        block = functools.partial(residual.bottleneck, shortcut=residual.striding_shortcut)
    else:
        x = residual.stem(x, width) if spec.layout == "cifar" else residual.widening_stem(x, width)
        block = residual.bottleneck
    x = residual.stages(x, block, stages(spec), spec.blocks)
    return keras.Model(image, head(x, classes, spec.dropout), name="resnet")


FAMILY = Family(
    name="resnet",
    title="ResNet",
    presets=PRESETS,
    build=build,
    narrow=narrow,
    divide=divide,
    stages=stages,
    regularisation={"dropout": "S"},
    weight_decays={"resnet_50": WeightDecay(coupled=5e-5)},
)
