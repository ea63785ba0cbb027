"""XCiT (El-Nouby et al. 2021): attention between channels instead of positions, and depthwise 3x3 convolutions.

In the last two layers a class token attends to all positions. No division of these networks is published; the one by
budget is our choice.
"""

import dataclasses
import math

import keras

from dico_tf.layers.attention import ClassAttention, CrossCovariance
from dico_tf.layers.convolution import convolution
from dico_tf.layers.embeddings import ClassToken, FirstToken, FourierPlaces, LayerScale, normal
from dico_tf.layers.image_input import Normalisation, Sides, check_divides, entrance, uniform
from dico_tf.layers.normalisation import batch_norm, layer_norm
from dico_tf.layers.stochastic_depth import residual
from dico_tf.models import narrowing
from dico_tf.models.family import TRANSFORMER_DECAY, BaseSpec, Family

_CLASS_LAYERS = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spec(BaseSpec):
    patch: int  # side in pixels, a power of 2
    depth: int  # blocks, without the two layers of the class token
    heads: int = 8
    head_width: int = 48
    hidden: int = 0  # width inside the MLP; 0 = four times the tokens' width
    drop_path: float = 0.0  # drop rate of every residual branch but those of the class token
    layer_scale: float = 1.0  # initial value of the scales

    @property
    def layout(self) -> str:
        return "cifar" if self.patch < 8 else "imagenet"

    @property
    def width(self) -> int:
        """Width of a token."""
        return self.heads * self.head_width

    @property
    def inner(self) -> int:
        """Width inside the MLP."""
        return self.hidden or 4 * self.width


def _deep(**options) -> Spec:
    """Return the Spec of a network of 24 blocks on patches of 16x16 pixels; `options` are its other fields."""
    return Spec(patch=16, depth=24, layer_scale=1e-5, **options)


# Drop rates are our choice.
PRESETS = {
    "xcit_tiny": Spec(patch=4, depth=3, heads=4, head_width=16, drop_path=0.2),
    "xcit_s12_16": Spec(patch=16, depth=12, drop_path=0.05),
    "xcit_s12_8": Spec(patch=8, depth=12, drop_path=0.05),
    "xcit_s24_16": _deep(drop_path=0.1),
    "xcit_m24_16": _deep(head_width=64, drop_path=0.15),
    "xcit_l24_16": _deep(heads=16, drop_path=0.25),
}


def narrow(spec: Spec, scale: float) -> Spec:
    """Multiply the number of heads by the scale, and round it; the tokens' width follows.

    The MLP's width makes up for the rounding, so that a block has nearly scale^2 times its former weights.
    """
    heads = narrowing.head_count(spec.heads, scale)
    hidden = narrowing.mlp_width(spec.width, spec.inner, scale, heads * spec.head_width)
    return dataclasses.replace(spec, heads=heads, hidden=hidden)


def build(spec: Spec, image_size: Sides, classes: int, normalisation: Normalisation = Normalisation()) -> keras.Model:
    """Return the network from raw images to logits."""
    check_divides(image_size, spec.patch, f"patches of {spec.patch}x{spec.patch} pixels")
    image, x = entrance(image_size, normalisation)
    x = FourierPlaces(name="positions")(stem(x, spec))
    for i in range(spec.depth):
        x = block(x, spec, f"block{i + 1}")
    x = keras.layers.Reshape((-1, spec.width), name="tokens")(x)
    x = ClassToken(name="class_token")(x)
    for i in range(_CLASS_LAYERS):
        x = class_block(x, spec, f"class{i + 1}")
    x = FirstToken(name="class")(layer_norm(x, "norm"))
    return keras.Model(image, _dense(x, classes, "logits", dtype="float32"), name="xcit")


def norm(x, name: str):
    """Apply batch normalisation without weight decay of gamma."""
    return batch_norm(x, name, decay_gamma=False)


def _gelu(x, name: str):
    return keras.layers.Activation("gelu", name=name)(x)


def _dense(x, width: int, name: str, activation=None, **options):
    return keras.layers.Dense(width, activation, kernel_initializer=normal(), name=name, **options)(x)


def stem(x, spec: Spec):
    """Apply 3x3 convolutions of stride 2 with BN, and GELU between, until a pixel is a patch.

    Each doubles the width; the last gives `spec.width` channels.
    """
    count = spec.patch.bit_length() - 1
    for i in range(count):
        name, width = f"stem{i + 1}", spec.width // 2 ** (count - 1 - i)
        start = uniform(1 / math.sqrt(9 * x.shape[-1]))
        x = norm(convolution(x, width, 3, f"{name}_conv", 2, kernel_initializer=start), f"{name}_norm")
        x = _gelu(x, f"{name}_gelu") if i < count - 1 else x
    return x


def block(x, spec: Spec, name: str):
    """Apply x + scale XCA(LN(x)), then x + scale LPI(LN(x)), then x + scale MLP(LN(x)), to maps [B, H, W, C].

    XCA is cross-covariance attention, LPI two depthwise 3x3 convolutions with GELU and BN between. The scales are
    learnt numbers for each channel. Training drops each residual branch at `spec.drop_path`.
    """

    def attend(x):
        y = _dense(layer_norm(x, f"{name}_norm1"), 3 * spec.width, f"{name}_attention_qkv")
        y = CrossCovariance(spec.heads, name=f"{name}_attention_products")(y)
        return _scaled(_dense(y, spec.width, f"{name}_attention_projection"), spec, f"{name}_scale1")

    def local(x):
        y = _by_channel(layer_norm(x, f"{name}_norm3"), f"{name}_local_conv1")
        y = norm(_gelu(y, f"{name}_local_gelu"), f"{name}_local_norm")
        return _scaled(_by_channel(y, f"{name}_local_conv2"), spec, f"{name}_scale3")

    def mix(x):
        return _scaled(_mlp(layer_norm(x, f"{name}_norm2"), spec, name), spec, f"{name}_scale2")

    x = residual(x, attend, spec.drop_path, f"{name}_attention")
    x = residual(x, local, spec.drop_path, f"{name}_local")
    return residual(x, mix, spec.drop_path, f"{name}_mlp")


def _by_channel(x, name: str):
    start = uniform(1 / 3)
    return keras.layers.DepthwiseConv2D(
        3, padding="same", depthwise_initializer=start, bias_initializer=start, name=name
    )(x)


def _mlp(x, spec: Spec, name: str):
    return _dense(_dense(x, spec.inner, f"{name}_dense1", "gelu"), spec.width, f"{name}_dense2")


def _scaled(x, spec: Spec, name: str):
    return LayerScale(spec.layer_scale, name=name)(x)


def class_block(x, spec: Spec, name: str):
    """Apply a class-attention layer: only the class token attends and passes the MLP.

    As in the published code, each other token x becomes 2 LN2(x + scale LN1(x)), with two layer norms LN1 and LN2.
    """
    n = layer_norm(x, f"{name}_norm1")
    first, others = _split(n, f"{name}_norm1")
    qkv = [_dense(y, spec.width, f"{name}_attention_{part}") for part, y in zip("qkv", (first, n, n), strict=True)]
    y = ClassAttention(spec.heads, name=f"{name}_attention_products")(qkv)
    y = _dense(y, spec.width, f"{name}_attention_projection")
    y = keras.layers.Concatenate(axis=1, name=f"{name}_attention_together")([y, others])
    x = keras.layers.Add(name=f"{name}_attention_add")([x, _scaled(y, spec, f"{name}_scale1")])
    x = layer_norm(x, f"{name}_norm2")
    first, others = _split(x, f"{name}_norm2")
    y = _scaled(_mlp(first, spec, name), spec, f"{name}_scale2")
    y = keras.layers.Concatenate(axis=1, name=f"{name}_mlp_together")([y, others])
    return keras.layers.Add(name=f"{name}_mlp_add")([x, y])


def _split(x, name: str):
    """Return the class token and the other tokens."""
    first = keras.layers.Cropping1D((0, x.shape[1] - 1), name=f"{name}_first")(x)
    return first, keras.layers.Cropping1D((1, 0), name=f"{name}_others")(x)


FAMILY = Family(
    name="xcit",
    title="XCiT",
    presets=PRESETS,
    build=build,
    narrow=narrow,
    regularisation={"drop_path": "sqrt(S)"},
    weight_decay=TRANSFORMER_DECAY,
)
