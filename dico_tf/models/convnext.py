"""ConvNeXt (Liu et al. 2022): 7x7 convolutions by channel and MLPs, each stage at half the side of the one before.

How they are divided is our choice: nothing is published of it. `convnext_mini` is ours; the paper's tiny is convnext_t.
"""

import dataclasses

import keras

from dico_tf.divide.rules import multiple
from dico_tf.layers.embeddings import LayerScale, normal
from dico_tf.layers.image_input import Normalisation, Sides, check_divides, entrance
from dico_tf.layers.normalisation import layer_norm
from dico_tf.layers.stochastic_depth import residual, rising
from dico_tf.models.family import TRANSFORMER_DECAY, BaseSpec, Family

_GRID = 4  # channels


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spec(BaseSpec):
    widths: tuple[int, ...] = (96, 192, 384, 768)  # of each stage
    blocks: tuple[int, ...] = (3, 3, 27, 3)
    patch: int = 4  # pixels of a side of what the stem sees
    drop_path: float = 0.0  # of the last block; rises from 0 at the first
    layer_scale: float = 1e-6  # where the scales start

    @property
    def layout(self) -> str:
        return "imagenet" if self.patch == 4 else "cifar"


# Drop rates are our choice.
PRESETS = {
    "convnext_mini": Spec(widths=(48, 96), blocks=(2, 2), patch=2, drop_path=0.2),
    "convnext_t": Spec(blocks=(3, 3, 9, 3), drop_path=0.1),
    "convnext_s": Spec(drop_path=0.4),
    "convnext_b": Spec(widths=(128, 256, 512, 1024), drop_path=0.5),
    "convnext_l": Spec(widths=(192, 384, 768, 1536), drop_path=0.5),
}


def narrow(spec: Spec, scale: float) -> Spec:
    return dataclasses.replace(spec, widths=tuple(int(multiple(width * scale, _GRID)) for width in spec.widths))


def build(spec: Spec, image_size: Sides, classes: int, normalisation: Normalisation = Normalisation()) -> keras.Model:
    image, x = entrance(image_size, normalisation)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(features(x, spec)[-1])
    logits = keras.layers.Dense(classes, kernel_initializer=normal(), dtype="float32", name="logits")
    return keras.Model(image, logits(layer_norm(x, "norm")), name="convnext")


def features(x, spec: Spec) -> list:
    """Maps [B, h, w, C] after each stage."""
    stride = spec.patch * 2 ** (len(spec.widths) - 1)
    check_divides(x.shape[1:3], stride, f"squares of {stride}x{stride} pixels, one for each place of the last map")
    x, found = layer_norm(_patches(x, spec.widths[0], spec.patch, "stem_conv"), "stem_norm"), []
    for i, (width, rates) in enumerate(zip(spec.widths, rising(spec.drop_path, spec.blocks), strict=True)):
        if i:
            x = layer_norm(x, f"stage{i + 1}_shrink_norm")
            x = _patches(x, width, 2, f"stage{i + 1}_shrink_conv")
        for j, rate in enumerate(rates):
            x = block(x, spec.layer_scale, rate, f"stage{i + 1}_block{j + 1}")
        found.append(x)
    return found


def _patches(x, width: int, side: int, name: str):
    """Squares of so many pixels by themselves."""
    return keras.layers.Conv2D(width, side, side, kernel_initializer=normal(), name=name)(x)


def block(x, layer_scale: float, rate: float, name: str):
    """x + scale W2 gelu(W1 LN(7x7 by channel)), four times as wide in between."""
    width = x.shape[-1]

    def branch(x):
        y = keras.layers.DepthwiseConv2D(
            7, padding="same", depthwise_initializer=normal(), name=f"{name}_depthwise_conv"
        )(x)
        y = layer_norm(y, f"{name}_norm")
        y = keras.layers.Dense(4 * width, "gelu", kernel_initializer=normal(), name=f"{name}_dense1")(y)
        y = keras.layers.Dense(width, kernel_initializer=normal(), name=f"{name}_dense2")(y)
        return LayerScale(layer_scale, name=f"{name}_scale")(y)

    return residual(x, branch, rate, name)


FAMILY = Family(
    name="convnext",
    title="ConvNeXt",
    presets=PRESETS,
    build=build,
    narrow=narrow,
    regularisation={"drop_path": "sqrt(S)"},
    weight_decay=TRANSFORMER_DECAY,
)
