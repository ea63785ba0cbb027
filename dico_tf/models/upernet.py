"""UPerNet (Xiao et al. 2018): pyramid pooling and a feature pyramid on a transformer or a ConvNeXt.

The backbone's layers are named as in its classifier, whose weights they take. No division of these networks is
published; the one by budget is our choice. Two kinds of presets are ours, too: the mini networks, whose two stages make
a pyramid of two levels, and `upernet_vit_tiny`, whose finest level has a pixel for each patch of 4x4 pixels.
"""

import dataclasses
import math
from typing import Any

import keras

from dico_tf.divide.rules import multiple
from dico_tf.layers.embeddings import normal
from dico_tf.layers.image_input import Normalisation, Sides, entrance
from dico_tf.layers.normalisation import batch_norm
from dico_tf.layers.resizing import AdaptiveAveragePooling, ResizeAs
from dico_tf.models import convnext, segmentation, swin, vit
from dico_tf.models.family import TRANSFORMER_DECAY, BaseSpec, Family
from dico_tf.models.segmentation import as_large, logits, unit

BACKBONES = {vit.Spec: vit, swin.Spec: swin, convnext.Spec: convnext}
BINS = (1, 2, 3, 6)  # sides of the pooled maps
STRIDES = (4, 8, 16, 32)  # image pixels for each pixel of the levels that are made of a ViT's maps
_GRID = 4  # channels


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spec(BaseSpec):
    backbone: Any  # Spec of a ViT, a Swin or a ConvNeXt
    head: int = 512  # width of all maps after the backbone; the auxiliary head has half of it
    dropout: float = 0.1  # before the logits
    drop_path: float = 0.0  # drop rate of the backbone's residual branches

    layout = "segmentation"

    @property
    def levels(self) -> int:
        """Number of maps of different sizes that the head fuses."""
        return len(STRIDES) if isinstance(self.backbone, vit.Spec) else len(self.backbone.blocks)

    @property
    def output_stride(self) -> int:
        """Image pixels along a side for each pixel of the logits, before these are resized to the image."""
        return STRIDES[0] if isinstance(self.backbone, vit.Spec) else self.backbone.patch

    @property
    def side_step(self) -> int:
        """Sides of images must be multiples of this many pixels."""
        stages = len(self.backbone.widths) if isinstance(self.backbone, convnext.Spec) else 1
        return self.backbone.patch * 2 ** (stages - 1)


def _on(classifier: str, head: int) -> Spec:
    """Return the Spec with a head of this width on the backbone of a classifier's preset.

    The backbone's drop rate becomes a field of this Spec.
    """
    spec = next(family.PRESETS[classifier] for family in BACKBONES.values() if classifier in family.PRESETS)
    return Spec(backbone=dataclasses.replace(spec, drop_path=0.0), drop_path=spec.drop_path, head=head)


HEADS = {  # classifier whose backbone is used: width of the head
    "vit_tiny": 48,
    "vit_b_16": 512,
    "vit_l_16": 512,
    "swin_mini": 32,
    "swin_t": 512,
    "swin_b": 512,
    "convnext_mini": 32,
    "convnext_t": 512,
    "convnext_b": 512,
}
PRESETS = {f"upernet_{classifier}": _on(classifier, head) for classifier, head in HEADS.items()}


def narrow(spec: Spec, scale: float) -> Spec:
    """Multiply the widths of backbone and head by the scale, the backbone's as its own family does."""
    backbone = BACKBONES[type(spec.backbone)].narrow(spec.backbone, scale)
    return dataclasses.replace(spec, backbone=backbone, head=int(multiple(spec.head * scale, _GRID)))


def build(spec: Spec, image_size: Sides, classes: int, normalisation: Normalisation = Normalisation()) -> keras.Model:
    """Return the network from raw images [B, H, W, 3] to logits [B, H, W, C]."""
    image, x = entrance(image_size, normalisation)
    x = fused(top_down(levels(x, spec), spec), spec)
    x = keras.layers.Dropout(spec.dropout, name="dropout")(x)
    return keras.Model(image, as_large(logits(x, classes), image), name="upernet")


def learner(spec: Spec, branch: keras.Model) -> keras.Model:
    """Return the branch with an auxiliary head on the level before the coarsest; see `segmentation.learner`."""
    level = branch.get_layer(f"level{spec.levels - 1}_side_conv").input
    return segmentation.learner(branch, level, spec.head // 2)


def levels(x, spec: Spec) -> list:
    """Return the backbone's maps, finest first: one per stage with its own norm, or a ViT's four resized to STRIDES."""
    family = BACKBONES[type(spec.backbone)]
    maps = family.features(x, dataclasses.replace(spec.backbone, drop_path=spec.drop_path))
    if family is vit:
        return [_sized(x, stride / spec.backbone.patch, f"level{n}") for n, (x, stride) in _numbered(maps, STRIDES)]
    return [family.layer_norm(x, f"level{n}_norm") for n, (x,) in _numbered(maps)]


def _numbered(*lists):
    """Yield (n, (value n of each list)) for n from 1."""
    return enumerate(zip(*lists, strict=True), 1)


def _sized(x, factor: float, name: str):
    """Multiply the stride of a map by a factor.

    Above 1 max pooling shrinks the map; at 1 it stays. Below 1 a 2x2 transposed convolution doubles its sides as often
    as needed, with BN and GELU between two of them.
    """
    if factor > 1:
        return keras.layers.MaxPooling2D(int(factor), padding="same", name=f"{name}_shrink")(x)
    width, doublings = x.shape[-1], round(-math.log2(factor))
    for n in range(1, doublings + 1):
        x = keras.layers.Conv2DTranspose(width, 2, 2, kernel_initializer=normal(), name=f"{name}_grow{n}_conv")(x)
        if n < doublings:
            x = batch_norm(x, f"{name}_grow{n}_norm")
            x = keras.layers.Activation("gelu", name=f"{name}_grow{n}_gelu")(x)
    return x


def pooled(x, spec: Spec):
    """Concatenate the map and its means over 1x1, 2x2, 3x3 and 6x6 parts; apply a 3x3 `unit`.

    Each mean passes a 1x1 `unit` and is resized to the map first.
    """
    paths = [x]
    for bins in BINS:
        part = AdaptiveAveragePooling(bins, name=f"pool{bins}")(x)
        part = unit(part, spec.head, 1, f"pool{bins}")
        paths.append(ResizeAs(name=f"pool{bins}_spread")([part, x]))
    return unit(keras.layers.Concatenate(name="pool")(paths), spec.head, 3, "pool_join")


def top_down(maps: list, spec: Spec) -> list:
    """Return the levels of the pyramid, finest first, all `spec.head` wide.

    The coarsest level is `pooled`, and the sum begins with it. For each finer map, the sum is resized to the map, and a
    1x1 `unit` of the map is added to it. A 3x3 `unit` of this sum is the level.
    """
    x = pooled(maps[-1], spec)
    levels = [x]
    for n in range(len(maps) - 1, 0, -1):
        side = unit(maps[n - 1], spec.head, 1, f"level{n}_side")
        x = keras.layers.Add(name=f"level{n}_add")([side, ResizeAs(name=f"level{n}_above")([x, side])])
        levels.insert(0, unit(x, spec.head, 3, f"level{n}_smooth"))
    return levels


def fused(maps: list, spec: Spec):
    """Resize all levels to the finest, concatenate them and apply a 3x3 `unit`."""
    finest, *others = maps
    large = [ResizeAs(name=f"fuse{n}_spread")([x, finest]) for n, x in enumerate(others, 2)]
    return unit(keras.layers.Concatenate(name="fuse")([finest, *large]), spec.head, 3, "fuse_join")


FAMILY = Family(
    name="upernet",
    title="UPerNet",
    presets=PRESETS,
    build=build,
    narrow=narrow,
    regularisation={"drop_path": "sqrt(S)", "dropout": "S"},
    weight_decay=TRANSFORMER_DECAY,  # that of its backbones
    task="segmentation",
    learner=learner,
    fixed_size=True,  # tables of places and windows are made for one size
    head_layers=("level", "pool", "fuse", "logits", "auxiliary"),
    classifiers={f"upernet_{classifier}": classifier for classifier in HEADS},
)
