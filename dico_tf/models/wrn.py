"""Wide residual networks WRN-d-k (Zagoruyko and Komodakis 2016), post-activation."""

import dataclasses

import keras

from dico_tf.divide.rules import root
from dico_tf.errors import UserError
from dico_tf.layers.image import Normalisation, entrance, head
from dico_tf.models.residual import basic, stages, stem

LAYOUT = "cifar"
SPLITS = (1, 2, 4, 8, 16)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spec:
    depth: int  # 6n + 4
    width: int  # k: stages are 16k, 32k, 64k wide
    dropout: float = 0.0  # before the dense layer only

    def __post_init__(self):
        if (self.depth - 4) % 6:
            raise UserError(f"a WRN's depth is 6n + 4, which {self.depth} is not; e.g. 10, 16, 28, 40")


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
}


def divide(spec: Spec, splits: int) -> Spec:
    """k -> floor(k / sqrt(S) + 0.4), at least 1; dropout -> dropout / S."""
    return dataclasses.replace(spec, width=max(root(spec.width, splits, 0.4), 1), dropout=spec.dropout / splits)


def build(spec: Spec, image_size: int, classes: int, normalisation: Normalisation = Normalisation()) -> keras.Model:
    image, x = entrance(image_size, normalisation)
    blocks = (spec.depth - 4) // 6
    x = stages(stem(x, 16), basic, 16 * spec.width, (blocks,) * 3)
    return keras.Model(image, head(x, classes, spec.dropout), name="wrn")
