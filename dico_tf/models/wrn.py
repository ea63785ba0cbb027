"""Wide residual networks WRN-d-k (Zagoruyko and Komodakis 2016), with activation after the addition."""

import dataclasses
import functools

import keras

from dico_tf.divide.rules import multiple, published, root, words
from dico_tf.errors import UserError
from dico_tf.layers.image_input import Normalisation, entrance, head
from dico_tf.models import narrowing, residual
from dico_tf.models.family import BaseSpec, Family, WeightDecay
from dico_tf.models.residual import BLOCKS

_GRID = 4  # channels; published widths are on it


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spec(BaseSpec):
    depth: int  # 6n + 4 for CIFAR; 50 = the bottlenecks of ResNet-50, for ImageNet
    width: (
        float  # k: stages have k, 2k, 4k times the stem's width; for ImageNet the 3x3 of bottlenecks is k times as wide
    )
    stem: float = 16
    dropout: float = 0.0  # before the dense layer only
    planes: tuple[int, ...] = ()  # of each stage, if a budget chose them one by one

    def __post_init__(self):
        if self.layout == "cifar" and (self.depth - 4) % 6:
            raise UserError(
                f"WRN: expected a depth of 6n + 4, e.g. 10, 16, 28 or 40, or {words(BLOCKS, 'or')} for ImageNet, "
                f"got {self.depth}"
            )

    @property
    def layout(self) -> str:
        return "imagenet" if self.depth in BLOCKS else "cifar"

    @property
    def splits(self) -> tuple[int, ...]:
        return (1, 2, 4, 8, 16) if self.layout == "cifar" else (1, 2)


PRESETS = {
    "wrn_tiny": Spec(depth=10, width=1),
    "wrn_10_2": Spec(depth=10, width=2),
    "wrn_10_3": Spec(depth=10, width=3),
    "wrn_10_4": Spec(depth=10, width=4),
    "wrn_16_2": Spec(depth=16, width=2),
    "wrn_16_4": Spec(depth=16, width=4),
    "wrn_16_8": Spec(depth=16, width=8),
    "wrn_28_10": Spec(depth=28, width=10),
    "wrn_40_10": Spec(depth=40, width=10, dropout=0.1),
    "wrn_50_2": Spec(depth=50, width=2, stem=64),
    "wrn_50_3": Spec(depth=50, width=3, stem=64),
}


def divide(spec: Spec, splits: int) -> Spec:
    """Divide k: floor(k / sqrt(S) + 0.4), at least 1; the stem stays. Raises UserError if `spec.splits` lacks S."""
    published(spec.splits, splits, f"WRN-{spec.depth}-{spec.width:g}")
    return dataclasses.replace(spec, width=max(root(spec.width, splits, 0.4), 1))


def narrow(spec: Spec, scale: float) -> Spec:
    """Multiply k, or for ImageNet the stem and all widths with it, by the scale; widths are multiples of 4."""
    if spec.layout == "cifar":
        return dataclasses.replace(spec, width=narrowing.stem_width(spec.stem * spec.width, scale) / spec.stem)
    return dataclasses.replace(spec, stem=narrowing.stem_width(spec.stem, scale))


def stages(spec: Spec) -> list[int]:
    """Return the planes of each stage; its blocks end planes wide for CIFAR, 4 * planes wide for ImageNet."""
    if spec.layout == "cifar":
        return residual.widths(spec.stem * spec.width, 3, _GRID, spec.planes)
    return residual.widths(spec.stem, 4, _GRID, spec.planes)


def build(spec: Spec, image_size: int, classes: int, normalisation: Normalisation = Normalisation()) -> keras.Model:
    """Return the network from raw images to logits."""
    image, x = entrance(image_size, normalisation)
    width = multiple(spec.stem, _GRID)
    if spec.layout == "cifar":
        blocks = ((spec.depth - 4) // 6,) * 3
        x = residual.stem(x, width)
        x = residual.stages(x, residual.basic, stages(spec), blocks)
    else:
        x = residual.widening_stem(x, width)
        block = functools.partial(residual.bottleneck, base_width=64 * spec.width)
        x = residual.stages(x, block, stages(spec), BLOCKS[spec.depth])
    return keras.Model(image, head(x, classes, spec.dropout), name="wrn")


FAMILY = Family(
    name="wrn",
    title="WRN",
    presets=PRESETS,
    build=build,
    narrow=narrow,
    divide=divide,
    stages=stages,
    regularisation={"dropout": "S"},
    weight_decays=dict.fromkeys(("wrn_28_10", "wrn_40_10"), WeightDecay(coupled=5e-4)),
)
