"""RegNetY (Radosavovic et al. 2020): grouped bottlenecks that do not narrow inside, with squeeze and excitation.

The widths of the blocks are a quantised line. No division of these networks is published; the one by budget is our
choice.
"""

import dataclasses
import itertools
import math

import keras

from dico_tf.divide.rules import multiple
from dico_tf.layers.channel_attention import squeeze_excite
from dico_tf.layers.convolution import convolution
from dico_tf.layers.image_input import Normalisation, Sides, entrance, head
from dico_tf.layers.normalisation import batch_norm
from dico_tf.layers.stochastic_depth import residual, rising
from dico_tf.models.family import TRANSFORMER_DECAY, BaseSpec, Family
from dico_tf.models.residual import relu

_STEM = 32
_SQUEEZED = 4  # squeeze and excitation reduces a block's input width by this factor
_GRID = 4  # channels


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spec(BaseSpec):
    planes: tuple[int, ...]  # widths of the stages
    blocks: tuple[int, ...]
    group: int  # channels of a group
    groups: tuple[int, ...] = ()  # of each stage's 3x3, if its width is not that of the stage
    stem: int = _STEM  # its width
    stem_stride: int = 2
    drop_path: float = 0.0  # drop rate of the last block; rises linearly from 0 in the first

    @property
    def layout(self) -> str:
        return "imagenet" if self.stem_stride == 2 else "cifar"


def _published(depth: int, start: int, slope: float, factor: float, group: int, **options) -> Spec:
    """Return a Spec of `depth` blocks; block j, from 0, is about start + slope * j wide.

    This width is rounded to start * factor^n, with a whole number n, then to a multiple of 8. Blocks of one width are a
    stage. Last, the width of each stage is rounded to a multiple of `group`.

    Args:
        group: channels of a group.
        options: further fields of the Spec.
    """
    steps = [round(math.log((start + slope * j) / start, factor)) for j in range(depth)]
    exact = [round(start * factor**step / 8) * 8 for step in steps]
    stages = [(width, len(list(same))) for width, same in itertools.groupby(exact)]
    planes = tuple(round(width / group) * group for width, _ in stages)
    return Spec(planes=planes, blocks=tuple(count for _, count in stages), group=group, **options)


# The drop rates are our choice; the paper drops no branches.
PRESETS = {
    "regnety_tiny": Spec(planes=(32, 64), blocks=(1, 2), group=8, stem=16, stem_stride=1, drop_path=0.1),
    "regnety_400mf": _published(16, 48, 27.89, 2.09, 8, drop_path=0.05),
    "regnety_800mf": _published(14, 56, 38.84, 2.4, 16, drop_path=0.05),
    "regnety_1_6gf": _published(27, 48, 20.71, 2.65, 24, drop_path=0.1),
    "regnety_4gf": _published(22, 96, 31.41, 2.24, 64, drop_path=0.1),
    "regnety_8gf": _published(17, 192, 76.82, 2.19, 56, drop_path=0.1),
    "regnety_16gf": _published(18, 200, 106.23, 2.48, 112, drop_path=0.2),
}


def narrow(spec: Spec, scale: float) -> Spec:
    """Return the Spec with the widths of stem, stages and groups multiplied by the scale.

    Stem and stages become multiples of 4 channels, groups a multiple of 8. A stage's 3x3 has as many whole groups as
    come nearest to the scaled width, so that it can be wider or narrower than the stage.
    """
    group = int(multiple(spec.group * scale, 8))
    return dataclasses.replace(
        spec,
        planes=tuple(int(multiple(width * scale, _GRID)) for width in spec.planes),
        group=group,
        groups=tuple(max(round(width * scale / group), 1) for width in spec.planes),
        stem=int(multiple(spec.stem * scale, _GRID)),
    )


def stages(spec: Spec) -> list[int]:
    """Return the width of each stage."""
    return list(spec.planes)


def build(spec: Spec, image_size: Sides, classes: int, normalisation: Normalisation = Normalisation()) -> keras.Model:
    """Return the network from raw images to logits."""
    image, x = entrance(image_size, normalisation)
    x = convolution(x, spec.stem, 3, "stem_conv", spec.stem_stride)
    x = relu(norm(x, "stem_norm"), "stem_relu")
    groups = spec.groups or tuple(width // spec.group for width in spec.planes)
    for i, rates in enumerate(rising(spec.drop_path, spec.blocks)):
        for j, rate in enumerate(rates):
            name = f"stage{i + 1}_block{j + 1}"
            x = block(x, spec.planes[i], groups[i], spec.group, 1 if j else 2, rate, name)
    return keras.Model(image, head(x, classes, start=keras.initializers.RandomNormal(stddev=0.01)), name="regnet")


def norm(x, name: str, **options):
    """Apply batch normalisation without weight decay of gamma."""
    return batch_norm(x, name, decay_gamma=False, **options)


def block(x, width: int, groups: int, group: int, stride: int, rate: float, name: str):
    """Return relu(shortcut + y); y applies 1x1 convolution, BN, relu, grouped 3x3, BN, relu, SE, 1x1 and BN to x.

    Args:
        groups, group: number of groups of the 3x3, and channels of each.
        rate: drop rate of y in training.
    """
    entering = x.shape[-1]

    def branch(x):
        y = relu(norm(convolution(x, groups * group, 1, f"{name}_conv1"), f"{name}_norm1"), f"{name}_relu1")
        y = convolution(y, groups * group, 3, f"{name}_conv2", stride, groups)
        y = relu(norm(y, f"{name}_norm2"), f"{name}_relu2")
        y = squeeze_excite(y, max(round(entering / _SQUEEZED), 1), f"{name}_se")
        return norm(convolution(y, width, 1, f"{name}_conv3"), f"{name}_norm3", gamma="zeros")

    def shortcut(x):
        if stride == 1 and entering == width:
            return x
        y = convolution(x, width, 1, f"{name}_shortcut_conv", stride)
        return norm(y, f"{name}_shortcut_norm")

    return relu(residual(x, branch, rate, name, shortcut), f"{name}_relu3")


FAMILY = Family(
    name="regnet",
    title="RegNetY",
    presets=PRESETS,
    build=build,
    narrow=narrow,
    stages=stages,
    regularisation={"drop_path": "sqrt(S)"},
    weight_decay=TRANSFORMER_DECAY,
)
