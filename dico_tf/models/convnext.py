"""ConvNeXt (Liu et al. 2022): depthwise 7x7 convolutions and MLPs. Each stage but the first halves its maps' sides.

No division of these networks is published; the one by budget is our choice. `convnext_mini` is ours; the paper's tiny
is `convnext_t`.
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
    patch: int = 4  # side in pixels of the stem's patches
    drop_path: float = 0.0  # drop rate of the last block; rises linearly from 0 in the first
    layer_scale: float = 1e-6  # initial value of the scales

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
    """Multiply all widths by the scale, in multiples of 4 channels."""
    return dataclasses.replace(spec, widths=tuple(int(multiple(width * scale, _GRID)) for width in spec.widths))


def build(spec: Spec, image_size: Sides, classes: int, normalisation: Normalisation = Normalisation()) -> keras.Model:
    """Return the network from raw images to logits."""
    image, x = entrance(image_size, normalisation)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(features(x, spec)[-1])
    logits = keras.layers.Dense(classes, kernel_initializer=normal(), dtype="float32", name="logits")
    return keras.Model(image, logits(layer_norm(x, "norm")), name="convnext")


def features(x, spec: Spec) -> list:
    """Return the maps [B, h, w, C] of normalised images after each stage.

    Raises UserError unless the sides of the images are multiples of the last map's stride.
    """
    stride = spec.patch * 2 ** (len(spec.widths) - 1)
    check_divides(x.shape[1:3], stride, f"squares of {stride}x{stride} pixels, one for each position of the last map")
    x, maps = layer_norm(_patches(x, spec.widths[0], spec.patch, "stem_conv"), "stem_norm"), []
    for i, (width, rates) in enumerate(zip(spec.widths, rising(spec.drop_path, spec.blocks), strict=True)):
        if i:
            x = layer_norm(x, f"stage{i + 1}_shrink_norm")
            x = _patches(x, width, 2, f"stage{i + 1}_shrink_conv")
        for j, rate in enumerate(rates):
            x = block(x, spec.layer_scale, rate, f"stage{i + 1}_block{j + 1}")
        maps.append(x)
    return maps


def _patches(x, width: int, side: int, name: str):
    """Apply a convolution to squares of side x side pixels that do not overlap."""
    return keras.layers.Conv2D(width, side, side, kernel_initializer=normal(), name=name)(x)


def block(x, layer_scale: float, rate: float, name: str):
    """Apply x + scale W2 gelu(W1 LN(depthwise 7x7(x))), four times as wide in between.

    The scales are learnt, from `layer_scale` on. Training drops the residual branch at `rate`.
    """
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
