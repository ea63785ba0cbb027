"""Swin transformers (Liu et al. 2021): attention within windows, shifted by half a window in every second block.

Sides must be multiples of the patch. Maps that windows do not divide are padded with zeros after the norm and before
the shift. This is our choice: without it nearly no size but 224 would work. No division of these networks is published;
the one by budget is our choice. `swin_mini` is ours; the paper's tiny is `swin_t`.
"""

import dataclasses
import functools
import math

import keras

from dico_tf.layers import normalisation
from dico_tf.layers.embeddings import normal
from dico_tf.layers.image_input import Normalisation, Sides, check_divides, entrance, uniform
from dico_tf.layers.stochastic_depth import residual, rising
from dico_tf.layers.window_attention import Neighbours, window_attention
from dico_tf.models import narrowing
from dico_tf.models.family import TRANSFORMER_DECAY, BaseSpec, Family

layer_norm = functools.partial(normalisation.layer_norm, epsilon=1e-5)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spec(BaseSpec):
    blocks: tuple[int, ...] = (2, 2, 18, 2)  # of each stage
    heads: tuple[int, ...] = (3, 6, 12, 24)
    head_width: int = 32
    hidden: tuple[int, ...] = ()  # widths inside the MLPs; () = four times the widths of the stages
    patch: int = 4  # side in pixels
    window: int = 7  # side in tokens
    drop_path: float = 0.0  # drop rate of the last block; rises linearly from 0 in the first

    @property
    def layout(self) -> str:
        return "imagenet" if self.patch == 4 else "cifar"

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
    "swin_mini": Spec(blocks=(2, 2), heads=(2, 4), head_width=16, patch=2, window=4, drop_path=0.2),
    "swin_t": Spec(blocks=(2, 2, 6, 2), drop_path=0.2),
    "swin_s": Spec(drop_path=0.3),
    "swin_b": Spec(heads=(4, 8, 16, 32), drop_path=0.5),
    "swin_l": Spec(heads=(6, 12, 24, 48), drop_path=0.2),
}


def narrow(spec: Spec, scale: float) -> Spec:
    """Multiply the number of heads in every stage by the scale, and round it; the tokens' widths follow.

    The MLPs' widths make up for the rounding, so that a block has nearly scale^2 times its former weights.
    """
    heads = tuple(narrowing.head_count(count, scale) for count in spec.heads)
    sizes = zip(spec.widths, spec.inner, heads, strict=True)
    hidden = tuple(narrowing.mlp_width(width, inner, scale, count * spec.head_width) for width, inner, count in sizes)
    return dataclasses.replace(spec, heads=heads, hidden=hidden)


def build(spec: Spec, image_size: Sides, classes: int, normalisation: Normalisation = Normalisation()) -> keras.Model:
    """Return the network from raw images to logits."""
    image, x = entrance(image_size, normalisation)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(layer_norm(features(x, spec)[-1], "norm"))
    logits = keras.layers.Dense(classes, kernel_initializer=normal(), dtype="float32", name="logits")
    return keras.Model(image, logits(x), name="swin")


def features(x, spec: Spec) -> list:
    """Return the maps [B, h, w, C] of normalised images after each stage, before neighbours are merged.

    Raises UserError unless the sides of the images are multiples of the patch.
    """
    check_divides(x.shape[1:3], spec.patch, f"patches of {spec.patch}x{spec.patch} pixels")
    fan_in = uniform(1 / math.sqrt(3 * spec.patch**2))
    x = keras.layers.Conv2D(
        spec.widths[0], spec.patch, spec.patch, kernel_initializer=fan_in, bias_initializer=fan_in, name="patches"
    )(x)
    x, maps = layer_norm(x, "patches_norm"), []
    for i, rates in enumerate(rising(spec.drop_path, spec.blocks)):
        if i:
            x = merged(x, spec.widths[i], f"stage{i + 1}_merge")
        for j, rate in enumerate(rates):
            x = block(x, spec, i, j % 2 == 1, rate, f"stage{i + 1}_block{j + 1}")
        maps.append(x)
    return maps


def merged(x, width: int, name: str):
    """Merge 2x2 tokens into one of `width` channels: a dense layer without bias on the layer norm of their channels."""
    x = layer_norm(Neighbours(name=f"{name}_neighbours")(x), f"{name}_norm")
    return keras.layers.Dense(width, use_bias=False, kernel_initializer=normal(), name=f"{name}_dense")(x)


def block(x, spec: Spec, stage: int, shifted: bool, rate: float, name: str):
    """Apply x + attention(LN(x)), then x + MLP(LN(x)); training drops each branch at `rate`.

    Args:
        stage: index of the stage, from 0.
        shifted: whether the windows of attention are shifted by half a window.
    """

    def attend(x):
        y = layer_norm(x, f"{name}_norm1")
        heads = spec.heads[stage]
        return window_attention(y, heads, spec.head_width, spec.window, shifted, f"{name}_attention", normal())

    def mix(x):
        y = layer_norm(x, f"{name}_norm2")
        y = keras.layers.Dense(spec.inner[stage], "gelu", kernel_initializer=normal(), name=f"{name}_dense1")(y)
        return keras.layers.Dense(x.shape[-1], kernel_initializer=normal(), name=f"{name}_dense2")(y)

    x = residual(x, attend, rate, f"{name}_attention")
    return residual(x, mix, rate, f"{name}_mlp")


FAMILY = Family(
    name="swin",
    title="Swin",
    presets=PRESETS,
    build=build,
    narrow=narrow,
    regularisation={"drop_path": "sqrt(S)"},
    weight_decay=TRANSFORMER_DECAY,
)
