"""DeepLabV3 (Chen et al. 2017) on an ImageNet ResNet, whose last stages use dilation instead of stride.

The structure is that of torchvision: a 7x7 stem, 1x1 convolutions with the stride in the shortcuts, ASPP and a 3x3
before the logits.
"""

import dataclasses
from collections.abc import Iterator

import keras

from dico_tf.divide.rules import lookup, multiple
from dico_tf.errors import UserError
from dico_tf.layers.image_input import Normalisation, Sides, entrance
from dico_tf.layers.resizing import ResizeAs
from dico_tf.models import narrowing, residual, resnet, segmentation
from dico_tf.models.family import BaseSpec, Family
from dico_tf.models.residual import BLOCKS
from dico_tf.models.segmentation import as_large, logits, unit

STEM = 4  # output stride of the stem with its pooling
WIDTHS = resnet.WIDTHS["imagenet"]
RATES = (6, 12, 18)  # dilations of ASPP at output stride 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spec(BaseSpec):
    blocks: tuple[int, ...]  # of each stage
    width: float = 64  # of the stem; stages end 4, 8, 16, 32 times as wide, ASPP and head are 4 times as wide
    grid: int = 1  # widths are multiples of this
    output_stride: int = 16  # image pixels for each pixel of the map: 8, 16 or 32
    multi_grid: tuple[int, ...] = ()  # factors for the dilations of the last stage's blocks; () = all 1
    dropout: float = 0.5  # after ASPP

    layout = "segmentation"

    def __post_init__(self) -> None:
        if self.output_stride not in (8, 16, 32):
            raise UserError(f"DeepLabV3: expected output_stride of 8, 16 or 32, got {self.output_stride}")
        if self.multi_grid and len(self.multi_grid) != self.blocks[-1]:
            raise UserError(
                f"multi_grid: expected a factor for each of the {self.blocks[-1]} blocks of the last stage, "
                f"got {self.multi_grid}"
            )

    @property
    def splits(self) -> tuple[int, ...]:
        return tuple(WIDTHS)

    @property
    def head(self) -> int:
        """Width of ASPP, of the head and of the auxiliary head."""
        return multiple(4 * self.width, self.grid)


PRESETS = {
    "deeplabv3_tiny": Spec(blocks=(1, 1, 1, 1), width=16),
    "deeplabv3_small": Spec(blocks=(2, 2, 2, 2), width=24, output_stride=8),
    "deeplabv3_resnet_50": Spec(blocks=BLOCKS[50]),
    "deeplabv3_resnet_50_os8": Spec(blocks=BLOCKS[50], output_stride=8),
    "deeplabv3_resnet_101": Spec(blocks=BLOCKS[101]),
    "deeplabv3_resnet_101_os8": Spec(blocks=BLOCKS[101], output_stride=8),
}


def divide(spec: Spec, splits: int) -> Spec:
    """Multiply the stem's width by 44/64, 32/64 or 24/64 for S = 2, 4 or 8, as in ResNet, to a multiple of 4.

    All other widths are computed from the stem's. S = 1 changes nothing; any other S raises UserError.
    """
    share = lookup(WIDTHS, splits, f"a DeepLabV3 of {sum(spec.blocks)} blocks") / WIDTHS[1]
    return dataclasses.replace(spec, width=multiple(spec.width * share, 4))


def narrow(spec: Spec, scale: float) -> Spec:
    """Multiply all widths by the scale, in multiples of 4 channels."""
    return dataclasses.replace(spec, width=narrowing.stem_width(spec.width, scale), grid=4)


def strides_and_dilations(spec: Spec) -> Iterator[list[tuple[int, int]]]:
    """Yield, for each stage, the (stride, dilation) of its blocks.

    In a stage that dilates instead of striding, the first block has the dilation of the stage before, the others twice
    that. With `multi_grid`, every block of the last stage, also the first, has the dilation of the others, times a
    factor of its own.
    """
    reached, dilation = STEM, 1
    for stage, count in enumerate(spec.blocks):
        first, stride = dilation, 1
        if stage and reached < spec.output_stride:
            reached, stride = 2 * reached, 2
        elif stage:
            dilation *= 2
        dilations = [first] + [dilation] * (count - 1)
        if spec.multi_grid and stage == len(spec.blocks) - 1:
            dilations = [dilation * factor for factor in spec.multi_grid]
        yield [(1 if block else stride, d) for block, d in enumerate(dilations)]


def backbone(x, spec: Spec):
    """Return the map of the last stage, from normalised images."""
    x = residual.plain_stem(x, multiple(spec.width, spec.grid))
    planes = residual.widths(spec.width, len(spec.blocks), spec.grid)
    for i, (width, stage) in enumerate(zip(planes, strides_and_dilations(spec), strict=True)):
        for j, (stride, dilation) in enumerate(stage):
            name = f"stage{i + 1}_block{j + 1}"
            x = residual.bottleneck(x, width, stride, name, dilation=dilation, shortcut=residual.striding_shortcut)
    return x


def aspp(x, spec: Spec):
    """Apply ASPP: concatenate a 1x1, three dilated 3x3 and the mean of the map, then apply a 1x1 and dropout."""
    rates = [rate * 16 // spec.output_stride for rate in RATES]
    paths = [unit(x, spec.head, 1, "aspp_point")]
    paths += [unit(x, spec.head, 3, f"aspp_wide{n + 1}", rate) for n, rate in enumerate(rates)]
    whole = keras.layers.GlobalAveragePooling2D(keepdims=True, name="aspp_mean")(x)
    whole = unit(whole, spec.head, 1, "aspp_mean")
    paths.append(ResizeAs(name="aspp_mean_spread")([whole, x]))
    x = unit(keras.layers.Concatenate(name="aspp")(paths), spec.head, 1, "aspp_join")
    return keras.layers.Dropout(spec.dropout, name="dropout")(x)


def build(spec: Spec, image_size: Sides, classes: int, normalisation: Normalisation = Normalisation()) -> keras.Model:
    """Return the network from raw images to logits [B, H, W, C]; image_size (None, None) takes images of any size."""
    image, x = entrance(image_size, normalisation)
    x = aspp(backbone(x, spec), spec)
    x = logits(unit(x, spec.head, 3, "head"), classes)
    return keras.Model(image, as_large(x, image), name="deeplabv3")


def learner(spec: Spec, branch: keras.Model) -> keras.Model:
    """Return the branch with an auxiliary head on its third stage, as `segmentation.learner` describes."""
    third = branch.get_layer(f"stage3_block{spec.blocks[2]}_relu3").output
    return segmentation.learner(branch, third, spec.head)


FAMILY = Family(
    name="deeplab",
    title="DeepLabV3",
    presets=PRESETS,
    build=build,
    narrow=narrow,
    divide=divide,
    regularisation={"dropout": "S"},
    task="segmentation",
    learner=learner,
    head_layers=("aspp", "head", "logits", "auxiliary"),
)
