"""Shake-Shake 26 2xNd for CIFAR (Gastaldi 2017): residual blocks of two paths, mixed at random."""

import dataclasses
import math

import keras

from dico_tf.divide.rules import lookup
from dico_tf.layers.convolution import convolution, shifted
from dico_tf.layers.image_input import Normalisation, entrance, head, uniform
from dico_tf.layers.normalisation import batch_norm
from dico_tf.layers.shake import ShakeShake
from dico_tf.models import narrowing, residual
from dico_tf.models.family import BaseSpec, Family
from dico_tf.models.residual import relu

STEM = 16
WIDTHS = {  # of the first stage: by that of the whole network, then by S
    96: {1: 96, 2: 64, 4: 48, 8: 32, 16: 24},
    64: {1: 64, 2: 44, 4: 32, 8: 20},
    32: {1: 32, 2: 24, 4: 16},
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spec(BaseSpec):
    width: float  # of the first stage; the others are 2 and 4 times as wide
    blocks: int = 4  # of each stage
    grid: int = 1  # widths are multiples of this
    planes: tuple[int, ...] = ()  # of each stage, if a budget chose them one by one

    layout = "cifar"

    @property
    def splits(self) -> tuple[int, ...]:
        return tuple(WIDTHS.get(self.width, {1: self.width}))


PRESETS = {
    "shake_tiny": Spec(width=32, blocks=1),
    "shake_26_2x32d": Spec(width=32),
    "shake_26_2x64d": Spec(width=64),
    "shake_26_2x96d": Spec(width=96),
}


def divide(spec: Spec, splits: int) -> Spec:
    """Reduce the width by the published table: 96 -> 64, 48, 32, 24 for S = 2, 4, 8, 16.

    64 -> 44, 32, 20 for S = 2, 4, 8; 32 -> 24, 16 for S = 2, 4. Any other S but 1 raises UserError.
    """
    table = WIDTHS.get(spec.width, {1: spec.width})
    return dataclasses.replace(spec, width=lookup(table, splits, f"Shake-Shake 2x{spec.width:g}d"))


def narrow(spec: Spec, scale: float) -> Spec:
    """Multiply the widths of the stages by the scale, in multiples of 4 channels; the stem stays."""
    return dataclasses.replace(spec, width=narrowing.stem_width(spec.width, scale), grid=4)


def stages(spec: Spec) -> list[int]:
    """Return the width of each stage."""
    return residual.widths(spec.width, 3, spec.grid, spec.planes)


def build(spec: Spec, image_size: int, classes: int, normalisation: Normalisation = Normalisation()) -> keras.Model:
    """Return the network from raw images to logits."""
    image, x = entrance(image_size, normalisation)
    x = convolution(x, STEM, 3, "stem_conv", use_bias=True, bias_initializer=uniform(1 / math.sqrt(27)))
    x = batch_norm(x, "stem_norm")
    x = relu(residual.stages(x, block, stages(spec), (spec.blocks,) * 3), "final_relu")
    return keras.Model(image, head(x, classes), name="shake_shake")


def block(x, planes: int, stride: int, name: str):
    """Return shortcut + Shake-Shake of two paths; each path is relu, 3x3 convolution, BN, relu, 3x3 convolution, BN."""
    paths = []
    for path in ("a", "b"):
        here = f"{name}_{path}"
        y = convolution(relu(x, f"{here}_relu1"), planes, 3, f"{here}_conv1", stride)
        y = convolution(relu(batch_norm(y, f"{here}_norm1"), f"{here}_relu2"), planes, 3, f"{here}_conv2")
        paths.append(batch_norm(y, f"{here}_norm2"))
    y = ShakeShake(name=f"{name}_shake")(paths)
    return keras.layers.Add(name=f"{name}_add")([_shortcut(x, planes, stride, name), y])


def _shortcut(x, planes: int, stride: int, name: str):
    """Return x if the shape stays; else apply relu, two 1x1 convolutions whose results are concatenated, and BN.

    The second convolution sees the map shifted by one pixel.
    """
    if stride == 1 and x.shape[-1] == planes:
        return x
    x = relu(x, f"{name}_shortcut_relu")
    # a strided 1x1 skips pixels; the second one takes those between
    one = convolution(x, planes // 2, 1, f"{name}_shortcut_conv1", stride)
    two = convolution(shifted(x, f"{name}_shortcut"), planes - planes // 2, 1, f"{name}_shortcut_conv2", stride)
    x = keras.layers.Concatenate(name=f"{name}_shortcut_concat")([one, two])
    return batch_norm(x, f"{name}_shortcut_norm")


FAMILY = Family(
    name="shake_shake",
    title="Shake-Shake",
    presets=PRESETS,
    build=build,
    narrow=narrow,
    divide=divide,
    stages=stages,
)
