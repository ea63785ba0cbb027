"""Base class of the objects that make the views of a batch, and the function that applies one policy."""

import abc
from collections.abc import Sequence
from typing import Any, Self

import tensorflow as tf

from dico_tf.views import keras_cv_operations, operations
from dico_tf.views.counter_rng import CounterRng
from dico_tf.views.piece import GatherPiece, Piece, WindowPiece
from dico_tf.views.pixel_map import PixelMap

SETTINGS = ("policies", "splits", "seed", "fill", "same", "image_size")


class ViewMaker(abc.ABC):
    """Makes S views of each image. Every draw is a pure function of (seed, epoch, image index, branch).

    Args:
        policies: one view policy for all branches, or one per branch.
        splits: S, the number of branches.
        seed: an integer that all draws depend on.
        fill: colour of pixels that are covered or lie beyond the image's edges, RGB in 0..255. Beyond the edges,
            `crop` takes black instead, AutoAugment grey 128, and `simple_crop` the mirrored image.
        same: show all branches the view of branch 0.
        image_size: side of the views in pixels; 0 if no piece needs it.
    """

    def __init__(
        self,
        policies: Sequence[str],
        splits: int,
        seed: int,
        fill: Sequence[float],
        same: bool = False,
        image_size: int = 0,
    ) -> None:
        self.policies, self.splits, self.seed, self.fill, self.same = tuple(policies), splits, seed, tuple(fill), same
        self.image_size = image_size
        self._parse()
        keras_cv_operations.layers()  # made here, because variables cannot be made inside a step

    @abc.abstractmethod
    def _parse(self) -> None:
        """Parse the policies. Raises UserError if they do not fit the task."""

    @property
    def distinct(self) -> int:
        """Number of different views: S, or 1 with `same`."""
        return 1 if self.same else self.splits

    def get_config(self) -> dict[str, Any]:
        return {name: list(v) if isinstance(v := getattr(self, name), tuple) else v for name in SETTINGS}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        return cls(**config)


def apply_policy(
    images: tf.Tensor,
    policy: Sequence[Piece],
    rng: CounterRng,
    fill: operations.Fill,
    cut: bool = False,
    in_place: bool = False,
) -> tf.Tensor:
    """Return images [B, H, W, 3] after all pieces of a policy, in order.

    Pieces that only move or cover whole pixels are collected in a pixel map until a piece needs the pixels.

    Args:
        cut: if the first piece is a window, the images are that window already, and the piece is skipped.
        in_place: pieces that draw operations leave out those that move pixels, so that a mask still matches.
    """
    pixels: PixelMap | None = None
    for number, piece in enumerate(policy):
        if cut and number == 0 and isinstance(piece, WindowPiece):
            continue
        own = rng.scope(f"{number} {type(piece).__name__}")  # the number keeps the draws of two equal pieces apart
        gathers = isinstance(piece, GatherPiece)
        if pixels and (not gathers or (pixels.covered and piece.moves_pixels)):
            images, pixels = pixels.render(), None
        if gathers:
            pixels = pixels or PixelMap(images, fill)
            piece.place(pixels, own)
        else:
            images = piece.apply(images, own, fill, in_place)
    return pixels.render() if pixels else images
