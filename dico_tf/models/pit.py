"""Pooling-based vision transformers (Heo et al. 2021): overlapping patches, and fewer, wider tokens in each stage.

No division of these networks is published; the one by budget is our choice.
"""

import dataclasses
import math

import keras

from dico_tf.errors import UserError
from dico_tf.layers.attention import Attention
from dico_tf.layers.convolution import padded
from dico_tf.layers.embeddings import ClassToken, FirstToken, Positions
from dico_tf.layers.image_input import Normalisation, Sides, check_divides, entrance, uniform
from dico_tf.layers.normalisation import layer_norm
from dico_tf.layers.stochastic_depth import residual, rising
from dico_tf.models import narrowing
from dico_tf.models.family import TRANSFORMER_DECAY, BaseSpec, Family


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spec(BaseSpec):
    heads: tuple[int, ...]  # of each stage; each a multiple of the one before
    head_width: int
    blocks: tuple[int, ...] = (2, 6, 4)
    hidden: tuple[int, ...] = ()  # widths inside the MLPs; () = four times the widths of the stages
    patch: int = 16  # side in pixels
    stride: int = 8  # pixels from one patch to the next
    drop_path: float = 0.0  # drop rate of the last block; rises linearly from 0 in the first

    @property
    def layout(self) -> str:
        return "cifar" if self.patch < 14 else "imagenet"

    @property
    def widths(self) -> list[int]:
        """Token width of each stage."""
        return [count * self.head_width for count in self.heads]

    @property
    def inner(self) -> list[int]:
        """Width inside the MLPs of each stage."""
        return list(self.hidden) or [4 * width for width in self.widths]


# Drop rates are our choice.
PRESETS = {
    "pit_tiny": Spec(heads=(4, 8), head_width=12, blocks=(2, 2), patch=4, stride=2, drop_path=0.2),
    "pit_ti": Spec(heads=(2, 4, 8), head_width=32, drop_path=0.1),
    "pit_xs": Spec(heads=(2, 4, 8), head_width=48, drop_path=0.1),
    "pit_s": Spec(heads=(3, 6, 12), head_width=48, drop_path=0.1),
    "pit_b": Spec(heads=(4, 8, 16), head_width=64, blocks=(3, 6, 4), patch=14, stride=7, drop_path=0.1),
}


def narrow(spec: Spec, scale: float) -> Spec:
    """Multiply the first stage's number of heads by the scale, and round it; the tokens' widths follow.

    The other stages keep the ratios of their heads to the first. The MLPs' widths make up for the rounding, so that a
    block has nearly scale^2 times its former weights.
    """
    first = narrowing.head_count(spec.heads[0], scale)
    heads = tuple(first * count // spec.heads[0] for count in spec.heads)
    sizes = zip(spec.widths, spec.inner, heads, strict=True)
    hidden = tuple(narrowing.mlp_width(width, inner, scale, count * spec.head_width) for width, inner, count in sizes)
    return dataclasses.replace(spec, heads=heads, hidden=hidden)


def build(spec: Spec, image_size: Sides, classes: int, normalisation: Normalisation = Normalisation()) -> keras.Model:
    """Return the network from raw images to logits."""
    step = f"{spec.patch}x{spec.patch} pixels that begin every {spec.stride} pixels"
    check_divides(image_size, spec.stride, f"patches of {step}", spec.patch)
    image, x = entrance(image_size, normalisation)
    fan_in = uniform(1 / math.sqrt(3 * spec.patch**2))
    options = {"kernel_initializer": fan_in, "bias_initializer": fan_in}
    x = keras.layers.Conv2D(spec.widths[0], spec.patch, spec.stride, name="patches", **options)(x)
    x = Positions(name="positions")(x)
    sides = x.shape[1:3]
    x = keras.layers.Reshape((-1, spec.widths[0]), name="tokens")(x)
    x = ClassToken(name="class_token")(x)
    for i, rates in enumerate(rising(spec.drop_path, spec.blocks)):
        if i:
            x, sides = pooled(x, sides, spec.widths[i], f"stage{i + 1}_pool")
        for j, rate in enumerate(rates):
            x = block(x, spec.heads[i], spec.inner[i], rate, f"stage{i + 1}_block{j + 1}")
    x = layer_norm(FirstToken(name="class")(x), "norm")
    return keras.Model(image, dense(x, classes, "logits", dtype="float32"), name="pit")


def dense(x, width: int, name: str, **options):
    """Apply a dense layer; kernel and bias start at U(-1 / sqrt(fan-in), 1 / sqrt(fan-in))."""
    start = uniform(1 / math.sqrt(x.shape[-1]))
    return keras.layers.Dense(width, kernel_initializer=start, bias_initializer=start, name=name, **options)(x)


def pooled(x, sides: tuple[int, int], width: int, name: str):
    """Pool patch tokens by a depthwise 3x3 of stride 2 to `width` channels; widen the class token by a dense layer.

    Raises UserError unless the width is a multiple of the number of channels before.

    Args:
        x: the class token, then the patch tokens of a map [h, w], row by row.
        sides: (h, w).

    Returns:
        The tokens, and the new sides of the map.
    """
    patches, channels = math.prod(sides), x.shape[-1]
    if width % channels:
        raise UserError(
            f"PiT: expected each stage's width to be a multiple of the one before, got {channels} and {width}"
        )
    token = keras.layers.Cropping1D((0, patches), name=f"{name}_token")(x)
    token = dense(token, width, f"{name}_dense")
    x = keras.layers.Cropping1D((1, 0), name=f"{name}_places")(x)
    x = keras.layers.Reshape((*sides, channels), name=f"{name}_map")(x)
    x, padding = padded(x, 3, 2, f"{name}_conv")
    fan_in = uniform(1 / 3)
    x = keras.layers.DepthwiseConv2D(
        3,
        2,
        padding=padding,
        depth_multiplier=width // channels,
        depthwise_initializer=fan_in,
        bias_initializer=fan_in,
        name=f"{name}_conv",
    )(x)
    sides = x.shape[1:3]
    x = keras.layers.Reshape((-1, width), name=f"{name}_tokens")(x)
    return keras.layers.Concatenate(axis=1, name=f"{name}_together")([token, x]), sides


def block(x, heads: int, hidden: int, rate: float, name: str):
    """Apply x + attention(LN(x)), then x + MLP(LN(x)), `hidden` wide inside; training drops each branch at `rate`."""
    width = x.shape[-1]

    def attend(x):
        y = dense(layer_norm(x, f"{name}_norm1"), 3 * width, f"{name}_attention_qkv")
        return dense(Attention(heads, name=f"{name}_attention_products")(y), width, f"{name}_attention_projection")

    def mix(x):
        y = dense(layer_norm(x, f"{name}_norm2"), hidden, f"{name}_dense1", activation="gelu")
        return dense(y, width, f"{name}_dense2")

    x = residual(x, attend, rate, f"{name}_attention")
    return residual(x, mix, rate, f"{name}_mlp")


FAMILY = Family(
    name="pit",
    title="PiT",
    presets=PRESETS,
    build=build,
    narrow=narrow,
    regularisation={"drop_path": "sqrt(S)"},
    weight_decay=TRANSFORMER_DECAY,
)
