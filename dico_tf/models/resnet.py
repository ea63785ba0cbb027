"""CIFAR ResNet: bottleneck nets of depth 9n + 2 (He et al. 2015)."""

import dataclasses

import keras

from dico_tf.divide.rules import lookup
from dico_tf.errors import UserError
from dico_tf.layers.image import Normalisation, entrance, head
from dico_tf.models.residual import bottleneck, stages, stem

LAYOUT = "cifar"
WIDTHS = {1: 16, 2: 12, 4: 8, 8: 6, 16: 4}
SPLITS = tuple(WIDTHS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spec:
    depth: int  # 9n + 2
    width: int = 16  # of the stem; stages are 4, 8, 16 times as wide

    def __post_init__(self):
        if (self.depth - 2) % 9:
            raise UserError(f"a CIFAR ResNet's depth is 9n + 2, which {self.depth} is not; e.g. 20, 56, 110, 164")


PRESETS = {
    "resnet_tiny": Spec(depth=11),
    "resnet_20": Spec(depth=20),
    "resnet_56": Spec(depth=56),
    "resnet_110": Spec(depth=110),
    "resnet_164": Spec(depth=164),
}


def divide(spec: Spec, splits: int) -> Spec:
    """Stem 16 -> 12, 8, 6, 4."""
    return dataclasses.replace(spec, width=lookup(WIDTHS, splits, f"resnet of depth {spec.depth}"))


def build(spec: Spec, image_size: int, classes: int, normalisation: Normalisation = Normalisation()) -> keras.Model:
    image, x = entrance(image_size, normalisation)
    blocks = (spec.depth - 2) // 9
    x = stages(stem(x, spec.width), bottleneck, spec.width, (blocks,) * 3)
    return keras.Model(image, head(x, classes), name="resnet")
