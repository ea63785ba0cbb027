"""EfficientNet (Tan and Le 2019) with symmetric padding and dropout of whole channels inside its blocks."""

import dataclasses
import functools
import math

import keras

from dico_tf.data.shapes import CIFAR_LARGEST
from dico_tf.divide.rules import multiple, published
from dico_tf.layers.convolution import convolution, depthwise
from dico_tf.layers.image import Normalisation, entrance, head, uniform
from dico_tf.layers.normalisation import batch_norm
from dico_tf.layers.squeeze_excite import squeeze_excite

norm = functools.partial(batch_norm, momentum=0.99, epsilon=1e-3, decay_gamma=False)

EXPANSIONS = (1, 6, 6, 6, 6, 6, 6)
REPEATS = (1, 2, 2, 3, 3, 4, 1)
KERNELS = (3, 3, 5, 3, 5, 5, 3)
STRIDES = {"cifar": (1, 1, 2, 1, 2, 1, 1, 1), "imagenet": (2, 1, 2, 2, 2, 1, 2, 1)}  # of the stem and each group


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spec:
    width: float = 1.0  # multiplies every number of channels
    depth: float = 1.0  # multiplies the repeats
    dropout: float = 0.2
    stem: int = 32
    channels: tuple[int, ...] = (16, 24, 40, 80, 112, 192, 320)  # of each group
    head: int = 1280
    divisor: int = 8  # channels are multiples of it, unless width is 1

    layout = ""  # follows the image size
    splits = (1, 2, 4)

    def rounded(self, channels: int) -> int:
        """width * channels to the nearest multiple of the divisor, never a tenth below."""
        if self.width == 1:
            return channels
        exact, d = self.width * channels, self.divisor
        nearest = max(d, int(exact + d / 2) // d * d)
        return nearest + d if nearest < 0.9 * exact else nearest


TABLES = {
    2: {"stem": 24, "channels": (12, 16, 24, 56, 80, 136, 224), "head": 920, "divisor": 4},
    4: {"stem": 16, "channels": (12, 16, 20, 40, 56, 96, 160), "head": 640, "divisor": 4},
}
PRESETS = {
    "efficientnet_tiny": Spec(width=0.5, depth=0.1),
    "efficientnet_b0": Spec(),
    "efficientnet_b1": Spec(depth=1.1),
    "efficientnet_b2": Spec(width=1.1, depth=1.2, dropout=0.3),
    "efficientnet_b3": Spec(width=1.2, depth=1.4, dropout=0.3),
    "efficientnet_b4": Spec(width=1.4, depth=1.8, dropout=0.4),
    "efficientnet_b5": Spec(width=1.6, depth=2.2, dropout=0.4),
    "efficientnet_b6": Spec(width=1.8, depth=2.6, dropout=0.5),
    "efficientnet_b7": Spec(width=2.0, depth=3.1, dropout=0.5),
}


def regularised(spec: Spec, splits: int) -> Spec:
    """dropout -> dropout / sqrt(S)."""
    return dataclasses.replace(spec, dropout=spec.dropout / math.sqrt(splits))


def divide(spec: Spec, splits: int) -> Spec:
    """The published table of channels for S = 2 and 4."""
    published(spec.splits, splits, "EfficientNet")
    return dataclasses.replace(regularised(spec, splits), **TABLES.get(splits, {}))


def narrow(spec: Spec, scale: float) -> Spec:
    return dataclasses.replace(spec, width=multiple(spec.width * scale, 1 / 256), divisor=4)


def build(spec: Spec, image_size: int, classes: int, normalisation: Normalisation = Normalisation()) -> keras.Model:
    image, x = entrance(image_size, normalisation)
    stem, *strides = STRIDES["cifar" if image_size <= CIFAR_LARGEST else "imagenet"]
    x = swish(norm(convolution(x, spec.rounded(spec.stem), 3, "stem_conv", stem), "stem_norm"), "stem_swish")
    for g, channels in enumerate(spec.channels):
        rate = spec.dropout * (g + 1) / len(spec.channels)
        for i in range(math.ceil(spec.depth * REPEATS[g])):
            stride = strides[g] if i == 0 else 1
            here = f"group{g + 1}_block{i + 1}"
            x = inverted(x, spec.rounded(channels), KERNELS[g], stride, here, EXPANSIONS[g], rate)
    x = swish(norm(convolution(x, spec.rounded(spec.head), 1, "head_conv"), "head_norm"), "head_swish")
    return keras.Model(image, head(x, classes, spec.dropout, uniform(1 / math.sqrt(classes))), name="efficientnet")


def swish(x, name: str):
    return keras.layers.Activation("swish", name=name)(x)


def inverted(x, width: int, kernel: int, stride: int, name: str, expansion: int, rate: float):
    """[1x1 to expansion times the width,] depthwise, squeeze-excite, 1x1; added to x where the shape stays."""
    entering = x.shape[-1]
    y = x
    if expansion > 1:
        y = convolution(y, expansion * entering, 1, f"{name}_expand_conv")
        y = swish(norm(y, f"{name}_expand_norm"), f"{name}_expand_swish")
    y = depthwise(y, kernel, f"{name}_depthwise_conv", stride)
    y = swish(norm(y, f"{name}_depthwise_norm"), f"{name}_depthwise_swish")
    y = squeeze_excite(y, max(entering // 4, 1), f"{name}_se", activation="swish")
    y = norm(convolution(y, width, 1, f"{name}_project_conv"), f"{name}_project_norm")
    if stride > 1 or entering != width:
        return y
    if rate:
        y = keras.layers.SpatialDropout2D(rate, name=f"{name}_dropout")(y)
    return keras.layers.Add(name=f"{name}_add")([x, y])
