"""Swin transformers (Liu et al. 2021): attention within windows that every second block shifts by half of one.

Sides must be multiples of the patch. Maps that windows do not divide are padded with zeros after the norm, before the
shift, which is our choice: refusing them would leave nearly no size but 224. How they are divided is
our choice: nothing is published of it. `swin_mini` is ours; the paper's tiny is swin_t.
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
    hidden: tuple[int, ...] = ()  # widths within the MLPs; four times the stages' where they are not given
    patch: int = 4  # pixels of a side
    window: int = 7  # tokens of a side
    drop_path: float = 0.0  # of the last block; rises from 0 at the first

    @property
    def layout(self) -> str:
        return "imagenet" if self.patch == 4 else "cifar"

    @property
    def widths(self) -> list[int]:
        return [count * self.head_width for count in self.heads]

    @property
    def inner(self) -> list[int]:
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
    """Fewer heads of the same width in every stage; the MLPs make up for what whole heads leave over."""
    heads = tuple(narrowing.fewer(count, scale) for count in spec.heads)
    both = zip(spec.widths, spec.inner, heads, strict=True)
    hidden = tuple(narrowing.hidden(width, inner, scale, count * spec.head_width) for width, inner, count in both)
    return dataclasses.replace(spec, heads=heads, hidden=hidden)


def build(spec: Spec, image_size: Sides, classes: int, normalisation: Normalisation = Normalisation()) -> keras.Model:
    image, x = entrance(image_size, normalisation)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(layer_norm(features(x, spec)[-1], "norm"))
    logits = keras.layers.Dense(classes, kernel_initializer=normal(), dtype="float32", name="logits")
    return keras.Model(image, logits(x), name="swin")


def features(x, spec: Spec) -> list:
    """Maps [B, h, w, C] after each stage, before they are merged."""
    check_divides(x.shape[1:3], spec.patch, f"patches of {spec.patch}x{spec.patch} pixels")
    fan_in = uniform(1 / math.sqrt(3 * spec.patch**2))
    x = keras.layers.Conv2D(
        spec.widths[0], spec.patch, spec.patch, kernel_initializer=fan_in, bias_initializer=fan_in, name="patches"
    )(x)
    x, found = layer_norm(x, "patches_norm"), []
    for i, rates in enumerate(rising(spec.drop_path, spec.blocks)):
        if i:
            x = merged(x, spec.widths[i], f"stage{i + 1}_merge")
        for j, rate in enumerate(rates):
            x = block(x, spec, i, j % 2 == 1, rate, f"stage{i + 1}_block{j + 1}")
        found.append(x)
    return found


def merged(x, width: int, name: str):
    """W LN(2x2 tokens side by side), without bias."""
    x = layer_norm(Neighbours(name=f"{name}_neighbours")(x), f"{name}_norm")
    return keras.layers.Dense(width, use_bias=False, kernel_initializer=normal(), name=f"{name}_dense")(x)


def block(x, spec: Spec, stage: int, shifted: bool, rate: float, name: str):
    """x + attention(LN(x)), then x + MLP(LN(x)); each is dropped for an image as a whole."""

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
