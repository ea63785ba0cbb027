"""ResNeXt (Xie et al. 2017): bottlenecks with a grouped 3x3; a division reduces the number of groups."""

import dataclasses
import functools

import keras

from dico_tf.divide.rules import evenly, multiple
from dico_tf.layers.image_input import Normalisation, entrance, head
from dico_tf.models import residual
from dico_tf.models.family import BaseSpec, Family, WeightDecay
from dico_tf.models.narrowing import narrow_groups, splits_of
from dico_tf.models.residual import BLOCKS

GRID = 4  # channels; published widths are on it


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spec(BaseSpec):
    blocks: tuple[int, ...]  # of each stage
    groups: int
    base_width: float  # of a group, in a stage of 64 planes
    width: float = 64  # of the stem; stages end 4, 8, 16 (, 32) times as wide
    planes: tuple[int, ...] = ()  # of each stage, if a budget chose them one by one

    @property
    def layout(self) -> str:
        return residual.layout(self.blocks)

    @property
    def splits(self) -> tuple[int, ...]:
        return splits_of(self.groups)


PRESETS = {
    "resnext_tiny": Spec(blocks=(1, 1, 1), groups=4, base_width=16, width=16),
    "resnext_29_8x64d": Spec(blocks=(3, 3, 3), groups=8, base_width=64),
    "resnext_29_16x64d": Spec(blocks=(3, 3, 3), groups=16, base_width=64),
    "resnext_50_32x4d": Spec(blocks=BLOCKS[50], groups=32, base_width=4),
    "resnext_101_32x4d": Spec(blocks=BLOCKS[101], groups=32, base_width=4),
    "resnext_101_64x4d": Spec(blocks=BLOCKS[101], groups=64, base_width=4),
}


def divide(spec: Spec, splits: int) -> Spec:
    """Divide the number of groups by S; nothing else changes. Raises UserError unless S divides it evenly."""
    return dataclasses.replace(spec, groups=evenly(spec.groups, splits, "groups"))


def narrow(spec: Spec, scale: float) -> Spec:
    """Multiply all widths by the scale: stem and stages in multiples of 4 channels, the 3x3 by fewer groups.

    Each group becomes a little wider or narrower, to make up for the rounding of their number.
    """
    return narrow_groups(spec, scale)


def stages(spec: Spec) -> list[int]:
    """Return the planes of each stage; its blocks end 4 * planes wide."""
    return residual.widths(spec.width, len(spec.blocks), GRID, spec.planes)


def build(spec: Spec, image_size: int, classes: int, normalisation: Normalisation = Normalisation()) -> keras.Model:
    """Return the network from raw images to logits."""
    image, x = entrance(image_size, normalisation)
    entered = residual.stem if spec.layout == "cifar" else residual.widening_stem
    x = entered(x, multiple(spec.width, GRID))
    block = functools.partial(residual.bottleneck, base_width=spec.base_width, groups=spec.groups)
    x = residual.stages(x, block, stages(spec), spec.blocks)
    return keras.Model(image, head(x, classes), name="resnext")


FAMILY = Family(
    name="resnext",
    title="ResNeXt",
    presets=PRESETS,
    build=build,
    narrow=narrow,
    divide=divide,
    stages=stages,
    weight_decays=dict.fromkeys(("resnext_29_8x64d", "resnext_29_16x64d"), WeightDecay(coupled=5e-4)),
)
