"""Vision transformers: plain ones (Dosovitskiy et al. 2021), and those of DeiT III (Touvron et al. 2022).

DeiT III scales every residual branch by a learnt number per channel, and its class token has no position embedding. No
division of these networks is published; the one by budget is our choice.
"""

import dataclasses
import math

import keras

from dico_tf.data.known_datasets import CIFAR_LARGEST
from dico_tf.errors import UserError
from dico_tf.layers.attention import self_attention
from dico_tf.layers.embeddings import ClassToken, FirstToken, LayerScale, PatchMap, Positions, normal
from dico_tf.layers.image_input import Normalisation, Sides, entrance, uniform
from dico_tf.layers.normalisation import layer_norm
from dico_tf.layers.stochastic_depth import residual
from dico_tf.models import narrowing
from dico_tf.models.family import TRANSFORMER_DECAY, BaseSpec, Family


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spec(BaseSpec):
    patch: int  # side in pixels
    depth: int  # blocks
    heads: int
    head_width: int = 64
    hidden: int = 0  # width inside the MLP; 0 = four times the tokens' width
    drop_path: float = 0.0  # drop rate of every residual branch
    layer_scale: float = (
        1e-4  # initial value of the scales; 0 = no scales, and a position embedding for the class token
    )
    cut: bool = False  # ignore pixels that fill no patch, as ViT-H/14 does at 160 and 128

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", self.hidden or 4 * self.width)

    @property
    def layout(self) -> str:
        return "cifar" if self.patch <= CIFAR_LARGEST // 16 else "imagenet"

    @property
    def width(self) -> int:
        """Width of a token."""
        return self.heads * self.head_width


def _of_both(name: str, **options) -> dict[str, Spec]:
    """Return two presets: `name`, of DeiT III's form, and `name`_plain, which has neither scales nor drop rates."""
    plain = {**options, "layer_scale": 0.0, "drop_path": 0.0}
    return {name: Spec(**options), f"{name}_plain": Spec(**plain)}


# Drop rates: DeiT III on ImageNet-1k, first stage of training; for ViT-M, which its recipes leave out, our choice.
PRESETS = {
    "vit_tiny": Spec(patch=4, depth=4, heads=4, head_width=16, drop_path=0.2),
    **_of_both("vit_s_16", patch=16, depth=12, heads=6, drop_path=0.05),
    "vit_m_16": Spec(patch=16, depth=12, heads=8, drop_path=0.1),
    **_of_both("vit_b_16", patch=16, depth=12, heads=12, drop_path=0.2),
    **_of_both("vit_l_16", patch=16, depth=24, heads=16, drop_path=0.45),
    **_of_both("vit_h_14", patch=14, depth=32, heads=16, head_width=80, drop_path=0.6, cut=True),
}


def narrow(spec: Spec, scale: float) -> Spec:
    """Multiply the number of heads by the scale, and round it; the tokens' width follows.

    The MLP's width makes up for the rounding, so that a block has nearly scale^2 times its former weights.
    """
    heads = narrowing.head_count(spec.heads, scale)
    hidden = narrowing.mlp_width(spec.width, spec.hidden, scale, heads * spec.head_width)
    return dataclasses.replace(spec, heads=heads, hidden=hidden)


def build(spec: Spec, image_size: Sides, classes: int, normalisation: Normalisation = Normalisation()) -> keras.Model:
    """Return the network from raw images to logits."""
    image, x = entrance(image_size, normalisation)
    x = FirstToken(name="class")(layer_norm(blocks(_patches(x, spec), spec)[-1], "norm"))
    logits = keras.layers.Dense(classes, kernel_initializer=normal(), dtype="float32", name="logits")(x)
    return keras.Model(image, logits, name="vit")


def blocks(x, spec: Spec) -> list:
    """Return the tokens [B, 1 + h w, C] after each block, from patches [B, h, w, C]."""
    x, outputs = tokens(x, spec), []
    for i in range(spec.depth):
        x = block(x, spec, f"block{i + 1}")
        outputs.append(x)
    return outputs


def features(x, spec: Spec) -> list:
    """Return the patches of normalised images as maps [B, h, w, C] after 1/4, 1/2, 3/4 and all of the blocks.

    The class token is left out.
    """
    x = _patches(x, spec)
    outputs = blocks(x, spec)
    last = [spec.depth * quarter // 4 - 1 for quarter in range(1, 5)]
    return [PatchMap(x.shape[1:3], name=f"block{n + 1}_map")(outputs[n]) for n in last]


def _patches(x, spec: Spec):
    """Return the tokens [B, h, w, C] of the patches of normalised images, with position embeddings."""
    for side in x.shape[1:3]:
        _check(side, spec)
    fan_in = uniform(1 / math.sqrt(3 * spec.patch**2))
    x = keras.layers.Conv2D(
        spec.width, spec.patch, spec.patch, kernel_initializer=fan_in, bias_initializer=fan_in, name="patches"
    )(x)
    return Positions(name="positions")(x)


def _check(side: int, spec: Spec) -> None:
    """Raise UserError if the side is shorter than a patch, or leaves a rest that the Spec does not ignore."""
    below = side // spec.patch * spec.patch
    if not below or (side != below and not spec.cut):
        fitting = " or ".join(str(size) for size in (below, below + spec.patch) if size)
        raise UserError(
            f"image_size={side} does not divide into patches of {spec.patch}x{spec.patch} pixels: give "
            f"--image_size={fitting}"
        )


def tokens(x, spec: Spec):
    """Flatten patches [B, h, w, C] and prepend the class token: [B, 1 + h w, C]."""
    x = keras.layers.Reshape((-1, spec.width), name="tokens")(x)
    return ClassToken(placed=not spec.layer_scale, name="class_token")(x)


def block(x, spec: Spec, name: str):
    """Apply x + scale attention(LN(x)), then x + scale MLP(LN(x)).

    The scales are learnt numbers for each channel; the plain form has none. Training drops each residual branch at
    `spec.drop_path`.
    """

    def attend(x):
        y = layer_norm(x, f"{name}_norm1")
        y = self_attention(y, spec.heads, spec.head_width, f"{name}_attention", normal())
        return _scaled(y, spec, f"{name}_scale1")

    def mix(x):
        y = layer_norm(x, f"{name}_norm2")
        y = keras.layers.Dense(spec.hidden, "gelu", kernel_initializer=normal(), name=f"{name}_dense1")(y)
        y = keras.layers.Dense(spec.width, kernel_initializer=normal(), name=f"{name}_dense2")(y)
        return _scaled(y, spec, f"{name}_scale2")

    x = residual(x, attend, spec.drop_path, f"{name}_attention")
    return residual(x, mix, spec.drop_path, f"{name}_mlp")


def _scaled(x, spec: Spec, name: str):
    return LayerScale(spec.layer_scale, name=name)(x) if spec.layer_scale else x


FAMILY = Family(
    name="vit",
    title="a vision transformer",
    presets=PRESETS,
    build=build,
    narrow=narrow,
    regularisation={"drop_path": "sqrt(S)"},
    weight_decay=TRANSFORMER_DECAY,
)
