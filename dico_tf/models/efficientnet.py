"""EfficientNet (Tan and Le 2019) in the three forms that checkpoints are published for.

* Listed presets: the networks of arXiv 2011.14660, with symmetric padding, and spatial dropout in their blocks.
* `tf_`: the original ImageNet networks, which pad as TensorFlow does (named as in timm).
* `torch_`: those of torchvision and timm, with another epsilon in batch normalisation.

All three have the same layers of the same shapes, so a checkpoint of another form would load and answer wrongly.
`forms_of` tells them apart by the names of their layers.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Iterable, Mapping

import keras

from dico_tf.data.known_datasets import CIFAR_LARGEST
from dico_tf.divide.rules import multiple, published
from dico_tf.layers.channel_attention import squeeze_excite
from dico_tf.layers.convolution import convolution, depthwise
from dico_tf.layers.image_input import Normalisation, entrance, head, uniform
from dico_tf.layers.normalisation import batch_norm
from dico_tf.models.family import BaseSpec, Family, WeightDecay

EXPANSIONS = (1, 6, 6, 6, 6, 6, 6)
REPEATS = (1, 2, 2, 3, 3, 4, 1)
KERNELS = (3, 3, 5, 3, 5, 5, 3)
STRIDES = {"cifar": (1, 1, 2, 1, 2, 1, 1, 1), "imagenet": (2, 1, 2, 2, 2, 1, 2, 1)}  # of the stem and each group


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spec(BaseSpec):
    width: float = 1.0  # multiplies every number of channels
    depth: float = 1.0  # multiplies the repeats
    dropout: float = 0.2
    stem: int = 32
    channels: tuple[int, ...] = (16, 24, 40, 80, 112, 192, 320)  # of each group
    head: int = 1280
    divisor: int = 8  # channels are multiples of this, unless width is 1
    padding: str = "symmetric"  # or "same", as TensorFlow pads layers that stride
    epsilon: float = 1e-3  # of batch normalisation
    block_dropout: bool = True  # also drop whole channels inside the blocks
    squeeze_excite: bool = True  # in every block
    activation: str = "swish"  # or another that keras.layers.Activation takes
    fixed_ends: bool = False  # width leaves stem and head as they are, depth the first and the last group
    layout: str = ""  # "imagenet", or by the image size

    splits = (1, 2, 4)

    def rounded(self, channels: int) -> int:
        """Return width * channels, rounded to a multiple of the divisor, but never more than a tenth down.

        At width 1, channels stay as they are.
        """
        if self.width == 1:
            return channels
        exact, d = self.width * channels, self.divisor
        nearest = max(d, int(exact + d / 2) // d * d)
        return nearest + d if nearest < 0.9 * exact else nearest

    def end(self, channels: int) -> int:
        """Return the channels of the stem or the head: `rounded`, or unchanged if `fixed_ends`."""
        return channels if self.fixed_ends else self.rounded(channels)

    def repeats(self, group: int) -> int:
        """Return the number of blocks in group 0, 1 ... 6."""
        fixed = self.fixed_ends and group in (0, len(REPEATS) - 1)
        return REPEATS[group] if fixed else math.ceil(self.depth * REPEATS[group])


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
FORMS = {  # prefix of the preset's name: what differs in the Spec
    "tf_": {"padding": "same", "block_dropout": False, "layout": "imagenet"},
    "torch_": {"epsilon": 1e-5, "block_dropout": False, "layout": "imagenet"},
}
UNLISTED = {
    form + name: dataclasses.replace(spec, **changes)
    for form, changes in FORMS.items()
    for name, spec in PRESETS.items()
}
_WIDTH_OF_B5 = 1.6  # from this width on torchvision uses the original epsilon


def forms_of(layers: Iterable[str], width: float) -> tuple[str, ...]:
    """Return the prefixes (keys of FORMS, or "") of presets that a checkpoint with these layers can be of.

    () if the names of the layers do not tell.

    Args:
        width: the preset's; torchvision's B5 to B7 are of the listed form, its smaller ones of `torch_`.
    """
    patterns = {
        r"_conv_stem\.|_blocks\.\d": ("tf_",),  # the original ImageNet networks, and their PyTorch port
        r"mod\d+\.block\d": ("",),  # those of arXiv 2011.14660
        r"features\.\d+\.\d": ("",) if width >= _WIDTH_OF_B5 else ("torch_",),  # torchvision
        r"conv_stem\.|blocks\.\d+\.\d": tuple(FORMS),  # timm, which names the layers of both alike
    }
    return first_match(layers, patterns)


def first_match(layers: Iterable[str], patterns: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Return the value of the first pattern that matches, or () if none does.

    Args:
        layers: names, tried in turn; a pattern must match the beginning of a name.
        patterns: {regular expression: value}, tried in turn for each name.
    """
    for layer in layers:
        for pattern, forms in patterns.items():
            if re.match(pattern, layer):
                return forms
    return ()


def in_forms(name: str, forms: Iterable[str]) -> tuple[str, ...]:
    """Return a preset's name with each of the prefixes `forms` (keys of FORMS, or "" = none) instead of its own."""
    size = next((name.removeprefix(form) for form in FORMS if name.startswith(form)), name)
    return tuple(form + size for form in forms)


def presets_of(name: str, spec: Spec, layers: Iterable[str]) -> tuple[str, ...]:
    """Return the names of the presets of this size that a checkpoint with these layer names can be of; () = unknown."""
    return in_forms(name, forms_of(layers, spec.width))


def divide(spec: Spec, splits: int) -> Spec:
    """Return the spec with the published table's channels for S = 2 or 4; `width` still multiplies them.

    S = 1 changes nothing. Raises UserError for any other S.
    """
    published(spec.splits, splits, "EfficientNet")
    return dataclasses.replace(spec, **TABLES.get(splits, {}))


def narrow(spec: Spec, scale: float) -> Spec:
    """Multiply all widths by the scale, in multiples of 4 channels."""
    return dataclasses.replace(spec, width=multiple(spec.width * scale, 1 / 256), divisor=4)


def build(spec: Spec, image_size: int, classes: int, normalisation: Normalisation = Normalisation()) -> keras.Model:
    """Return the network from raw images to logits."""
    image, x = entrance(image_size, normalisation)
    stem, *strides = STRIDES[spec.layout or ("cifar" if image_size <= CIFAR_LARGEST else "imagenet")]
    norm = functools.partial(batch_norm, momentum=0.99, epsilon=spec.epsilon, decay_gamma=False)
    x = convolution(x, spec.end(spec.stem), 3, "stem_conv", stem, padding=spec.padding)
    x = activate(norm(x, "stem_norm"), "stem", spec.activation)
    for g, channels in enumerate(spec.channels):
        rate = spec.dropout * (g + 1) / len(spec.channels) if spec.block_dropout else 0.0
        for i in range(spec.repeats(g)):
            stride = strides[g] if i == 0 else 1
            here = f"group{g + 1}_block{i + 1}"
            x = _inverted(x, spec.rounded(channels), KERNELS[g], stride, here, EXPANSIONS[g], rate, norm, spec)
    x = norm(convolution(x, spec.end(spec.head), 1, "head_conv"), "head_norm")
    x = activate(x, "head", spec.activation)
    return keras.Model(image, head(x, classes, spec.dropout, uniform(1 / math.sqrt(classes))), name="efficientnet")


def activate(x, name: str, activation: str):
    """Apply an activation; the layer's name is `name` and the activation's, joined by "_"."""
    return keras.layers.Activation(activation, name=f"{name}_{activation}")(x)


def _inverted(x, width: int, kernel: int, stride: int, name: str, expansion: int, rate: float, norm, spec: Spec):
    """Apply an inverted bottleneck: [1x1 expansion,] depthwise, [squeeze-excite,] 1x1; plus x if shapes are equal.

    Args:
        width: channels of the result.
        kernel, stride: of the depthwise convolution.
        name: with which the names of the block's layers begin.
        expansion: factor of the channels inside the block; 1 = no expansion.
        rate: rate at which whole channels of the block are dropped before x is added; 0 = no dropout.
        norm: (x, name) -> x.
    """
    entering = x.shape[-1]
    y = x
    if expansion > 1:
        y = convolution(y, expansion * entering, 1, f"{name}_expand_conv")
        y = activate(norm(y, f"{name}_expand_norm"), f"{name}_expand", spec.activation)
    y = depthwise(y, kernel, f"{name}_depthwise_conv", stride, spec.padding)
    y = activate(norm(y, f"{name}_depthwise_norm"), f"{name}_depthwise", spec.activation)
    if spec.squeeze_excite:
        y = squeeze_excite(y, max(entering // 4, 1), f"{name}_se", activation=spec.activation)
    y = norm(convolution(y, width, 1, f"{name}_project_conv"), f"{name}_project_norm")
    if stride > 1 or entering != width:
        return y
    if rate:
        y = keras.layers.SpatialDropout2D(rate, name=f"{name}_dropout")(y)
    return keras.layers.Add(name=f"{name}_add")([x, y])


FAMILY = Family(
    name="efficientnet",
    title="EfficientNet",
    presets=PRESETS,
    build=build,
    narrow=narrow,
    divide=divide,
    regularisation={"dropout": "sqrt(S)"},
    weight_decay=WeightDecay(coupled_imagenet=1e-5),
    weight_decays={"efficientnet_b3": WeightDecay(coupled=5e-4, coupled_imagenet=1e-5)},
    unlisted=UNLISTED,
    forms=presets_of,
)
