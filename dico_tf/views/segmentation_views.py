"""The views of a batch of scenes: one scale, crop and flip for picture and mask, then each branch in its own light.

Branches that looked at different places would have no pixel to agree on: so the geometry is drawn once an image.
"""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from dico_tf.errors import UserError
from dico_tf.views import autoaugment
from dico_tf.views.augmentation_chains import RANDAUGMENT, SIGNED, auto_augment, rand_augment
from dico_tf.views.counter_rng import CounterRng
from dico_tf.views.policies import (
    AutoAugmentCifar,
    AutoAugmentImagenet,
    Crop,
    Flip,
    Jitter,
    Piece,
    RandAugment,
    ResizedCrop,
    Scale,
    ShortSide,
    SimpleCrop,
    ThreeAugment,
    parse_all,
)
from dico_tf.views.three_augment import jitter, three_augment
from dico_tf.views.view_maker import ViewMaker
from dico_tf.views.views import seen

GEOMETRY = (Scale, Crop, Flip)
TONES = tuple(name for name in RANDAUGMENT if name not in SIGNED)


def _in_place(table: tuple) -> tuple:
    """The pairs without what moves pixels."""
    return tuple(tuple(("identity", 0.0, 0) if half[0] in SIGNED else half for half in pair) for pair in table)


_CIFAR, _IMAGENET = _in_place(autoaugment.CIFAR), _in_place(autoaugment.IMAGENET)
_APPLY = {
    ThreeAugment: lambda x, piece, draws, stream, fill: three_augment(x, draws, stream),
    Jitter: lambda x, piece, draws, stream, fill: jitter(x, piece.amount, draws, stream),
    AutoAugmentCifar: lambda x, piece, draws, stream, fill: auto_augment(x, _CIFAR, draws, stream),
    AutoAugmentImagenet: lambda x, piece, draws, stream, fill: auto_augment(x, _IMAGENET, draws, stream),
    RandAugment: lambda x, piece, draws, stream, fill: rand_augment(x, piece.m, draws, stream, fill, TONES),
}


def split(policies: Sequence[str], splits: int) -> tuple[tuple[Piece, ...], list[tuple[Piece, ...]]]:
    """(scale, crop and flip of all branches; the other pieces of each)."""
    parsed = parse_all(policies, splits)
    geometry = [tuple(piece for piece in pieces if isinstance(piece, GEOMETRY)) for pieces in parsed]
    if len(set(geometry)) > 1:
        raise UserError(
            f"--views={','.join(policies)}: branches of a segmentation run see the same place of an image, so scale, "
            "crop and flip must be the same for all"
        )
    for pieces in parsed:
        _check(",".join(policies), pieces)
    return geometry[0], [tuple(piece for piece in pieces if not isinstance(piece, GEOMETRY)) for pieces in parsed]


def _check(policies: str, pieces: Sequence[Piece]) -> None:
    refused = {
        ResizedCrop: "resized_crop distorts masks",
        ShortSide: "short_side is for clips",
        SimpleCrop: "simple_crop mirrors what has no mask",
    }
    for kind, why in refused.items():
        if any(isinstance(piece, kind) for piece in pieces):
            raise UserError(f"--views={policies}: {why}; give scale:0.5:2+crop for segmentation")
    kinds = [type(piece) for piece in pieces if isinstance(piece, GEOMETRY)]
    if len(set(kinds)) < len(kinds):
        raise UserError(f"--views={policies}: scale, crop and flip stand once each in a policy of segmentation")


@keras.saving.register_keras_serializable("dico_tf", name="SceneViews")  # as saved since version 0
class SegmentationViews(ViewMaker):
    """images [B, h, w, 3], masks [B, h, w] -> S views, masks; every draw a function of (seed, epoch, index, branch)."""

    zooms = True  # what is seen is cropped where pictures are read

    def _parse(self) -> None:
        geometry, self._tones = split(self.policies, self.splits)
        self._geometry = {type(piece): piece for piece in geometry}

    def windows(self, index: tf.Tensor, sizes: tf.Tensor, epoch: Any) -> tf.Tensor:
        """int32 [B, (width, height, left, top)]: what pictures of sizes [B, (w, h)] are resized to, and the crop there.

        Where that is smaller than the crop its place in it is drawn, and left and top are negative.
        """
        draws = CounterRng(self.seed, epoch, index)
        resized = tf.maximum(tf.cast(tf.round(tf.cast(sizes, tf.float32) * self._factor(draws)[:, None]), tf.int32), 1)
        room = resized - self.image_size
        if Crop in self._geometry:
            place = [draws.below(f"crop {side}", tf.abs(room[:, n]) + 1) for n, side in enumerate(("left", "top"))]
            corner = tf.minimum(room, 0) + tf.stack(place, axis=1)
        else:
            corner = room // 2
        return tf.concat([resized, corner], axis=1)

    def _factor(self, draws: CounterRng) -> tf.Tensor:
        scale = self._geometry.get(Scale, Scale(1.0, 1.0))
        if not scale.step:
            return draws.uniform("scale", scale.least, scale.most)
        count = int((scale.most - scale.least) / scale.step + 1e-6) + 1
        return scale.least + scale.step * tf.cast(draws.below("scale", count), tf.float32)

    def pair(
        self, images: tf.Tensor, masks: tf.Tensor, index: tf.Tensor, epoch: Any
    ) -> tuple[list[tf.Tensor], tf.Tensor]:
        """S x float32 [B, h, w, 3] in 0..255 and the masks they share; with `same`, S times branch 0's."""
        images, masks = (self._flipped(x, index, epoch) for x in (tf.cast(images, tf.float32), masks))
        views = []
        for branch in range(self.drawn):
            draws = CounterRng(self.seed, epoch, index, branch)
            views.append(seen(images, self._tones[branch], draws, self.fill, apply=_APPLY))
        return (views * self.splits if self.same else views), masks

    def __call__(self, images: tf.Tensor, index: tf.Tensor, epoch: Any, cut: bool = False) -> list[tf.Tensor]:
        return self.pair(images, tf.zeros(tf.shape(images)[:3], tf.uint8), index, epoch)[0]

    def _flipped(self, x: tf.Tensor, index: tf.Tensor, epoch: Any) -> tf.Tensor:
        """Left to right, every second one."""
        if Flip not in self._geometry:
            return x
        done = CounterRng(self.seed, epoch, index).uniform("flip") < 0.5
        return tf.where(tf.reshape(done, [-1, *[1] * (x.shape.rank - 1)]), tf.reverse(x, [2]), x)
