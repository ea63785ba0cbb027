"""The views of a batch: one picture, seen by each branch in its own way."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from dico_tf.views import autoaugment, keras_cv_operations, operations
from dico_tf.views.chains import auto_augment, rand_augment
from dico_tf.views.draws import Draws
from dico_tf.views.frames import COVERS, MOVES, Frame
from dico_tf.views.policies import AutoAugmentCifar, AutoAugmentImagenet, Piece, RandAugment, ResizedCrop, parse_all
from dico_tf.views.zoom import resized_crop

Apply = Callable[[tf.Tensor, Any, Draws, str, operations.Fill], tf.Tensor]

# piece that computes new pixels -> images [B, H, W, 3] of the images, itself, draws, prefix of its streams, fill
_APPLY: dict[type, Apply] = {
    ResizedCrop: lambda x, piece, draws, stream, fill: resized_crop(x, piece.min_area, draws, stream),
    AutoAugmentCifar: lambda x, piece, draws, stream, fill: auto_augment(x, autoaugment.CIFAR, draws, stream),
    AutoAugmentImagenet: lambda x, piece, draws, stream, fill: auto_augment(x, autoaugment.IMAGENET, draws, stream),
    RandAugment: lambda x, piece, draws, stream, fill: rand_augment(x, piece.m, draws, stream, fill),
}


@keras.saving.register_keras_serializable("dico_tf")
class Views:
    """images [B, H, W, 3] -> S views; every draw is a pure function of (seed, epoch, index, branch)."""

    def __init__(
        self, policies: Sequence[str], splits: int, seed: int, fill: Sequence[float], same: bool = False
    ) -> None:
        self.policies, self.splits, self.seed, self.fill, self.same = tuple(policies), splits, seed, tuple(fill), same
        self._pieces = parse_all(self.policies, splits)
        keras_cv_operations.layers()  # here, where variables may be made, and not inside a step

    def __call__(self, images: tf.Tensor, index: tf.Tensor, epoch: Any) -> list[tf.Tensor]:
        """S x float32 [B, H, W, 3] in 0..255; with `same`, S times branch 0's."""
        if self.same:
            return [self.view(images, index, epoch, 0)] * self.splits
        return [self.view(images, index, epoch, branch) for branch in range(self.splits)]

    def view(self, images: tf.Tensor, index: tf.Tensor, epoch: Any, branch: int) -> tf.Tensor:
        """What one branch sees of the images, float32 [B, H, W, 3]."""
        draws = Draws(self.seed, epoch, index, branch)
        return _seen(tf.cast(images, tf.float32), self._pieces[branch], draws, self.fill)

    def get_config(self) -> dict[str, Any]:
        names = ("policies", "splits", "seed", "fill", "same")
        return {name: list(v) if isinstance(v := getattr(self, name), tuple) else v for name in names}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Views":
        return cls(**config)


def _seen(images: tf.Tensor, pieces: Sequence[Piece], draws: Draws, fill: operations.Fill) -> tf.Tensor:
    """The pieces in order; those that only move or cover pixels wait in a frame until something needs the pixels."""
    frame: Frame | None = None
    for place, piece in enumerate(pieces):
        stream = f"{place} {type(piece).__name__}"  # the place keeps the draws of two equal pieces apart
        framed = isinstance(piece, MOVES + COVERS)
        if frame and (not framed or (frame.covers and isinstance(piece, MOVES))):
            images, frame = frame.view(), None
        if framed:
            frame = frame or Frame(images, fill)
            frame.add(piece, draws, stream)
        else:
            images = _APPLY[type(piece)](images, piece, draws, stream, fill)
    return frame.view() if frame else images
