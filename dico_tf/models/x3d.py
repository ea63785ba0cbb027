"""X3D (Feichtenhofer 2020): video networks of depthwise 3D convolutions that never stride in time.

A network takes clips of any length, and of any size from its training size on. On larger clips the head is applied at
several positions and their logits are averaged.
"""

import dataclasses
import functools
import math

import keras

from dico_tf.divide.rules import multiple, published, root
from dico_tf.errors import UserError
from dico_tf.layers import convolution_3d
from dico_tf.layers.convolution import convolution
from dico_tf.layers.image_input import Normalisation, Normalise
from dico_tf.layers.normalisation import batch_norm
from dico_tf.models.family import BaseSpec, Family, WeightDecay
from dico_tf.models.residual import relu

norm = functools.partial(batch_norm, decay_gamma=False)

WIDTHS = (12, 12, 24, 48, 96)  # of stem and stages at width 1; the first stage is not wider than the stem
BLOCKS = (1, 2, 5, 3)  # of each stage, at depth 1
INNER = 9 / 4  # width inside a block as a multiple of its stage's width
SQUEEZED = 1 / 16  # width of squeeze and excitation as a multiple of the width inside the block
STRIDE = 32  # image pixels for each pixel of the last map
SHORTCUTS = ("slowfast", "pytorchvideo")
KINETICS = Normalisation(mean=(0.45,) * 3, std=(0.225,) * 3)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spec(BaseSpec):
    frames: int  # of a clip
    rate: int  # a clip takes every rate-th frame of the video
    crop: int  # side in pixels of the square frames
    width: float = 2.0  # multiplies every width
    depth: float = 2.2  # multiplies the blocks
    head: int = 2048  # width before the dense layer
    dropout: float = 0.5
    divisor: int = 8  # widths are multiples of this
    shortcut: str = "slowfast"  # or pytorchvideo: no BN on the first stage's shortcut

    layout = "video"
    splits = (1, 2, 4)

    def __post_init__(self) -> None:
        if self.shortcut not in SHORTCUTS:
            raise UserError(f"shortcut: expected one of {', '.join(SHORTCUTS)}, got {self.shortcut!r}")

    @property
    def blocks(self) -> list[int]:
        """Blocks of each stage."""
        return [math.ceil(count * self.depth) for count in BLOCKS]

    @property
    def widths(self) -> list[int]:
        """Widths of the stem and each stage."""
        return [rounded(width * self.width, self.divisor) for width in WIDTHS]


def rounded(exact: float, divisor: int = 8) -> int:
    """Round to the nearest multiple of the divisor, at least to the divisor, but never more than a tenth down."""
    nearest = max(divisor, int(exact + divisor / 2) // divisor * divisor)
    return nearest + divisor if nearest < 0.9 * exact else nearest


PRESETS = {
    "x3d_tiny": Spec(frames=8, rate=2, crop=32, width=1.0, depth=0.6, head=256, dropout=0.2),
    "x3d_xs": Spec(frames=4, rate=12, crop=160),
    "x3d_s": Spec(frames=13, rate=6, crop=160),
    "x3d_m": Spec(frames=16, rate=5, crop=224),
    "x3d_l": Spec(frames=16, rate=5, crop=312, depth=5.0),
    "x3d_xl": Spec(frames=16, rate=5, crop=312, width=2.9, depth=5.0),
}


def divide(spec: Spec, splits: int) -> Spec:
    """Divide all widths by sqrt(S), and round them to multiples of 4 channels; this rule is our choice.

    The width of the head is rounded down to a whole number instead. Any S but 1, 2 and 4 raises UserError.
    """
    published(spec.splits, splits, "X3D")
    width, width_of_head = spec.width / math.sqrt(splits), root(spec.head, splits)
    return dataclasses.replace(spec, width=width, head=width_of_head, divisor=4)


def narrow(spec: Spec, scale: float) -> Spec:
    """Multiply all widths by the scale, in multiples of 4 channels (the head's of 8)."""
    width, head = multiple(spec.width * scale, 1 / 256), int(multiple(spec.head * scale, 8))
    return dataclasses.replace(spec, width=width, head=head, divisor=4)


def build(spec: Spec, image_size: int, classes: int, normalisation: Normalisation = KINETICS) -> keras.Model:
    """Return the network from raw clips [B, T, H, W, 3] to logits, for training at image_size; T, H and W stay open."""
    image = keras.Input((None, None, None, 3), name="image", dtype="float32")  # [B, T, H, W, 3]
    x = Normalise(normalisation.mean, normalisation.std, name="normalise")(image)
    stem, *widths = spec.widths
    x = convolution_3d.convolution(x, stem, "stem_conv", window=3, stride=2)
    x = convolution_3d.channelwise(x, (5, 1, 1), "stem_time_conv")
    x = relu(norm(x, "stem_norm"), "stem_relu")
    for i, (width, count) in enumerate(zip(widths, spec.blocks, strict=True)):
        for j in range(count):
            x = block(x, width, f"stage{i + 1}_block{j + 1}", 1 if j else 2, j % 2 == 0, spec.shortcut)
    return keras.Model(image, head(x, spec, image_size, classes), name="x3d")


def block(x, width: int, name: str, stride: int, excited: bool, form: str):
    """Return relu(shortcut + y); y applies 1x1x1, BN, relu, depthwise 3x3x3, BN, SE, swish, 1x1x1 and BN to x.

    Args:
        stride: of the 3x3x3 and the shortcut, in height and width only.
        excited: whether the block has squeeze and excitation (SE).
        form: of the shortcut, one of SHORTCUTS.
    """
    inner = int(INNER * width)
    y = convolution_3d.convolution(x, inner, f"{name}_conv1")
    y = relu(norm(y, f"{name}_norm1"), f"{name}_relu1")
    y = norm(convolution_3d.channelwise(y, (3, 3, 3), f"{name}_conv2", stride), f"{name}_norm2")
    if excited:
        y = convolution_3d.squeeze_excite(y, rounded(inner * SQUEEZED), f"{name}_se")
    y = keras.layers.Activation("swish", name=f"{name}_swish")(y)
    y = norm(convolution_3d.convolution(y, width, f"{name}_conv3"), f"{name}_norm3", gamma="zeros")
    y = keras.layers.Add(name=f"{name}_add")([shortcut(x, width, stride, name, form), y])
    return relu(y, f"{name}_relu3")


def shortcut(x, width: int, stride: int, name: str, form: str):
    """Return x if the shape stays, else BN(1x1x1 with the stride); form "pytorchvideo" has no BN if the width stays."""
    same_width = x.shape[-1] == width
    if stride == 1 and same_width:
        return x
    y = convolution_3d.convolution(x, width, f"{name}_shortcut_conv", stride=stride)
    return y if same_width and form == "pytorchvideo" else norm(y, f"{name}_shortcut_norm")


def head(x, spec: Spec, image_size: int, classes: int):
    """Apply 1x1x1, BN, ReLU, the mean over time and over windows as large as in training; 1x1, ReLU, dropout, dense.

    A larger map has several such windows; their logits are averaged.
    """
    x = convolution_3d.convolution(x, int(INNER * spec.widths[-1]), "head_conv1")
    x = convolution_3d.Mean((1,), name="head_time")(relu(norm(x, "head_norm1"), "head_relu1"))
    x = keras.layers.AveragePooling2D(math.ceil(image_size / STRIDE), 1, name="head_pool")(x)  # [B, h, w, C]
    x = relu(convolution(x, spec.head, 1, "head_conv2"), "head_relu2")
    if spec.dropout:
        x = keras.layers.Dropout(spec.dropout, name="dropout")(x)
    start = keras.initializers.RandomNormal(stddev=0.01)
    x = keras.layers.Dense(classes, kernel_initializer=start, dtype="float32", name="logits")(x)
    return convolution_3d.Mean((1, 2), dtype="float32", name="mean_logits")(x)


FAMILY = Family(
    name="x3d",
    title="X3D",
    presets=PRESETS,
    build=build,
    narrow=narrow,
    divide=divide,
    regularisation={"dropout": "S"},
    weight_decay=WeightDecay(coupled=5e-5),
    task="video",
)
