"""DenseNet-BC for CIFAR (Huang et al. 2017): three dense blocks; the transitions between them halve the channels."""

import dataclasses
import functools
import math
from collections.abc import Iterator

import keras

from dico_tf.divide.rules import multiple, published
from dico_tf.errors import UserError
from dico_tf.layers import convolution as convolutions
from dico_tf.layers.image_input import Normalisation, entrance, head, uniform
from dico_tf.layers.normalisation import batch_norm
from dico_tf.layers.shake import ShakeDrop
from dico_tf.models.family import BaseSpec, Family
from dico_tf.models.residual import relu

norm = functools.partial(batch_norm, decay_gamma=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spec(BaseSpec):
    depth: int  # 6n + 4
    growth: float  # channels that each layer adds, on average
    grid: int = 1  # widths are multiples of it
    shake_drop: float = 0.0  # drop rate of the last layer; rises linearly from the first

    layout = "cifar"
    splits = (1, 2, 4, 8, 16)

    def __post_init__(self):
        if (self.depth - 4) % 6:
            raise UserError(f"DenseNet-BC: expected a depth of 6n + 4, e.g. 40, 100 or 190, got {self.depth}")

    @property
    def layers(self) -> int:
        """Number of layers in each of the three blocks."""
        return (self.depth - 4) // 6


PRESETS = {
    "densenet_tiny": Spec(depth=16, growth=8),
    "densenet_190_k40": Spec(depth=190, growth=40),
}


def divide(spec: Spec, splits: int) -> Spec:
    """Reduce the growth g to floor(floor(2g / sqrt(S)) / 2), at least 1.

    A growth of 40 becomes 28, 20, 14, 10 for S = 2, 4, 8, 16. Any S but these and 1 raises UserError.
    """
    published(spec.splits, splits, f"DenseNet-{spec.depth}")
    growth = max(math.floor(2 * spec.growth / math.sqrt(splits)) // 2, 1)
    return dataclasses.replace(spec, growth=growth)


def narrow(spec: Spec, scale: float) -> Spec:
    """Multiply the growth by the scale, and all widths with it; the widths become multiples of 4 channels."""
    return dataclasses.replace(spec, growth=multiple(spec.growth * scale, 1 / 16), grid=4)


def build(spec: Spec, image_size: int, classes: int, normalisation: Normalisation = Normalisation()) -> keras.Model:
    """Return the network from raw images to logits."""
    image, x = entrance(image_size, normalisation)
    x = convolution(x, multiple(2 * spec.growth, spec.grid), 3, "stem_conv")
    x = relu(norm(x, "stem_norm"), "stem_relu")
    for block in range(1, 4):
        for layer, growth in enumerate(growths(spec), 1):
            number = (block - 1) * spec.layers + layer
            rate = spec.shake_drop * number / (3 * spec.layers)
            x = dense_layer(x, growth, f"block{block}_layer{layer}", rate)
        if block < 3:
            x = transition(x, x.shape[-1] // 2 // spec.grid * spec.grid, f"transition{block}")
    x = relu(norm(x, "final_norm"), "final_relu")
    start = uniform(1 / math.sqrt(x.shape[-1]))
    return keras.Model(image, head(x, classes, start=start), name="densenet")


def growths(spec: Spec) -> Iterator[int]:
    """Yield the channels that each layer of a block adds, at least `spec.grid`.

    The sum over the first i layers is `spec.growth` * i, rounded to a multiple of `spec.grid`. For example
    28, 28, 32, 28 for a growth of 29 and a grid of 4.
    """
    so_far = 0
    for i in range(1, spec.layers + 1):
        total = max(spec.grid * round(spec.growth * i / spec.grid), so_far + spec.grid)
        yield total - so_far
        so_far = total


def convolution(x, filters: int, kernel: int, name: str):
    """Apply a convolution without bias, whose weights start at N(0, variance 2 / fan-in)."""
    start = keras.initializers.RandomNormal(stddev=math.sqrt(2 / (kernel * kernel * x.shape[-1])))
    return convolutions.convolution(x, filters, kernel, name, kernel_initializer=start)


def dense_layer(x, growth: int, name: str, rate: float):
    """Concatenate x and y; y applies BN, relu, 1x1 convolution (4 * growth wide), BN, relu, 3x3 and ShakeDrop to x.

    Args:
        rate: drop rate of ShakeDrop; 0 = without it.
    """
    y = convolution(relu(norm(x, f"{name}_norm1"), f"{name}_relu1"), 4 * growth, 1, f"{name}_conv1")
    y = convolution(relu(norm(y, f"{name}_norm2"), f"{name}_relu2"), growth, 3, f"{name}_conv2")
    if rate:
        y = ShakeDrop(rate, name=f"{name}_shake")(y)
    return keras.layers.Concatenate(name=f"{name}_concat")([x, y])


def transition(x, width: int, name: str):
    """Apply BN, ReLU, a 1x1 convolution to `width` channels, and 2x2 average pooling."""
    x = convolution(relu(norm(x, f"{name}_norm"), f"{name}_relu"), width, 1, f"{name}_conv")
    return keras.layers.AveragePooling2D(2, name=f"{name}_pool")(x)


FAMILY = Family(
    name="densenet",
    title="DenseNet-BC",
    presets=PRESETS,
    build=build,
    narrow=narrow,
    divide=divide,
    regularisation={"shake_drop": "sqrt(S)"},
)
