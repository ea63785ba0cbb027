"""PyramidNet of bottlenecks (Han et al. 2017) with ShakeDrop, for CIFAR: each block is wider than the one before."""

import dataclasses
import itertools
import math

import keras

from dico_tf.divide.rules import multiple, published
from dico_tf.errors import UserError
from dico_tf.layers.convolution import ZeroChannels, convolution
from dico_tf.layers.image_input import Normalisation, entrance, head, uniform
from dico_tf.layers.normalisation import batch_norm
from dico_tf.layers.shake import ShakeDrop
from dico_tf.models.family import BaseSpec, Family
from dico_tf.models.residual import relu

STEM = 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spec(BaseSpec):
    depth: int  # 9n + 2
    alpha: float  # planes that all blocks together add to the 16 of the stem
    shake_drop: float = 0.5  # drop rate of the last block; rises linearly from the first
    grid: int = 1  # planes are multiples of this

    layout = "cifar"
    splits = (1, 2, 4, 8, 16)

    def __post_init__(self):
        if (self.depth - 2) % 9:
            raise UserError(f"PyramidNet: expected a depth of 9n + 2, e.g. 110, 164 or 272, got {self.depth}")

    @property
    def blocks(self) -> int:
        """Number of blocks in each of the three stages."""
        return (self.depth - 2) // 9

    @property
    def planes(self) -> list[int]:
        """Planes of each block i = 1 .. 3n: 16 + alpha i / (3n), rounded to a multiple of `grid`."""
        steps = itertools.repeat(self.alpha / (3 * self.blocks), 3 * self.blocks)
        return [multiple(width, self.grid) for width in itertools.accumulate(steps, initial=STEM)][1:]


PRESETS = {
    "pyramidnet_tiny": Spec(depth=11, alpha=24),
    "pyramidnet_164_a270": Spec(depth=164, alpha=270),
    "pyramidnet_272_a200": Spec(depth=272, alpha=200),
}


def divide(spec: Spec, splits: int) -> Spec:
    """Divide alpha by sqrt(S); the stem stays. Any S but 1, 2, 4, 8 and 16 raises UserError."""
    published(spec.splits, splits, f"PyramidNet-{spec.depth}")
    return dataclasses.replace(spec, alpha=spec.alpha / math.sqrt(splits))


def narrow(spec: Spec, scale: float) -> Spec:
    """Multiply alpha by the scale; the stem stays, and all planes become multiples of 4."""
    return dataclasses.replace(spec, alpha=multiple(spec.alpha * scale, 1 / 2), grid=4)


def build(spec: Spec, image_size: int, classes: int, normalisation: Normalisation = Normalisation()) -> keras.Model:
    """Return the network from raw images to logits."""
    image, x = entrance(image_size, normalisation)
    x = batch_norm(convolution(x, STEM, 3, "stem_conv"), "stem_norm")
    for i, planes in enumerate(spec.planes):
        stage, block = divmod(i, spec.blocks)
        stride = 2 if stage and not block else 1
        rate = spec.shake_drop * (i + 1) / len(spec.planes)
        x = bottleneck(x, planes, stride, f"stage{stage + 1}_block{block + 1}", rate)
    x = relu(batch_norm(x, "final_norm"), "final_relu")
    start = uniform(1 / math.sqrt(x.shape[-1]))
    return keras.Model(image, head(x, classes, start=start, bias_start=start), name="pyramidnet")


def bottleneck(x, planes: int, stride: int, name: str, rate: float):
    """Return shortcut + y, with 4 * planes channels.

    y applies BN, 1x1 convolution, BN, relu, 3x3, BN, relu, 1x1, BN and ShakeDrop to x.

    Args:
        rate: drop rate of ShakeDrop; 0 = without it.
    """
    y = convolution(batch_norm(x, f"{name}_norm1"), planes, 1, f"{name}_conv1")
    y = convolution(relu(batch_norm(y, f"{name}_norm2"), f"{name}_relu1"), planes, 3, f"{name}_conv2", stride)
    y = convolution(relu(batch_norm(y, f"{name}_norm3"), f"{name}_relu2"), 4 * planes, 1, f"{name}_conv3")
    y = batch_norm(y, f"{name}_norm4")
    if rate:
        y = ShakeDrop(rate, name=f"{name}_shake")(y)
    return keras.layers.Add(name=f"{name}_add")([_shortcut(x, 4 * planes, stride, name), y])


def _shortcut(x, width: int, stride: int, name: str):
    """Apply 2x2 average pooling if the block strides, then append channels of zeros up to the width."""
    if stride > 1:
        x = keras.layers.AveragePooling2D(stride, padding="same", name=f"{name}_shortcut_pool")(x)
    missing = width - x.shape[-1]
    return ZeroChannels(missing, name=f"{name}_shortcut_zeros")(x) if missing else x


FAMILY = Family(
    name="pyramidnet",
    title="PyramidNet",
    presets=PRESETS,
    build=build,
    narrow=narrow,
    divide=divide,
    regularisation={"shake_drop": "sqrt(S)"},
)
