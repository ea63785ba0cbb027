"""The views of a batch: one picture, seen by each branch in its own way."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from dico_tf.errors import UserError
from dico_tf.views import autoaugment, operations
from dico_tf.views.augmentation_chains import auto_augment, rand_augment
from dico_tf.views.counter_rng import CounterRng
from dico_tf.views.crop_windows import beside, resized_crop, short_side, squares, windows
from dico_tf.views.pixel_map import COVERS, MOVES, PixelMap
from dico_tf.views.policies import (
    AutoAugmentCifar,
    AutoAugmentImagenet,
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

Apply = Callable[[tf.Tensor, Any, CounterRng, str, operations.Fill], tf.Tensor]

# piece that computes new pixels -> images [B, H, W, 3] of the images, itself, draws, prefix of its streams, fill
_APPLY: dict[type, Apply] = {
    ResizedCrop: lambda x, piece, draws, stream, fill: resized_crop(x, piece.min_area, draws, stream),
    ShortSide: lambda x, piece, draws, stream, fill: short_side(x, piece.least, piece.most, draws, stream),
    ThreeAugment: lambda x, piece, draws, stream, fill: three_augment(x, draws, stream),
    Jitter: lambda x, piece, draws, stream, fill: jitter(x, piece.amount, draws, stream),
    AutoAugmentCifar: lambda x, piece, draws, stream, fill: auto_augment(x, autoaugment.CIFAR, draws, stream),
    AutoAugmentImagenet: lambda x, piece, draws, stream, fill: auto_augment(x, autoaugment.IMAGENET, draws, stream),
    RandAugment: lambda x, piece, draws, stream, fill: rand_augment(x, piece.m, draws, stream, fill),
}


@keras.saving.register_keras_serializable("dico_tf")
class Views(ViewMaker):
    """images [B, H, W, 3] -> S views; every draw is a pure function of (seed, epoch, index, branch).

    The frames of a clip [B, T, H, W, 3] share all draws.
    """

    def _parse(self) -> None:
        self._pieces = parse_all(self.policies, self.splits)
        if any(isinstance(piece, Scale) for pieces in self._pieces for piece in pieces):
            raise UserError(f"--views={','.join(self.policies)}: scale is for --task=segmentation; give resized_crop")

    def __call__(self, images: tf.Tensor, index: tf.Tensor, epoch: Any, cut: bool = False) -> list[tf.Tensor]:
        """S x float32 [B, H, W, 3] in 0..255; with `same`, S times branch 0's.

        Images that are `cut` show every branch the window that `windows` drew for it: [B, S, H, W, 3].
        """
        each = tf.unstack(images, axis=1) if cut else [images] * self.drawn
        views = [self.view(each[branch], index, epoch, branch, cut) for branch in range(self.drawn)]
        return views * self.splits if self.same else views

    def view(self, images: tf.Tensor, index: tf.Tensor, epoch: Any, branch: int, cut: bool = False) -> tf.Tensor:
        """What one branch sees of the images, float32 [B, H, W, 3]; of images that are `cut`, its own windows."""
        images = tf.cast(images, tf.float32)
        shape = images.shape
        if shape.rank == 5:
            index = tf.repeat(index, tf.shape(images)[1])
            images = tf.ensure_shape(tf.reshape(images, [-1, *shape[2:]]), (None, *shape[2:]))
        draws = CounterRng(self.seed, epoch, index, branch)
        found = seen(images, self._pieces[branch], draws, self.fill, cut)
        return tf.ensure_shape(tf.reshape(found, [-1, *shape[1:]]), shape) if shape.rank == 5 else found

    @property
    def zooms(self) -> bool:
        """Whether a branch looks at a window of the whole picture before anything else."""
        return any(_zoom(pieces) for pieces in self._pieces)

    def windows(self, index: tf.Tensor, sizes: tf.Tensor, epoch: Any) -> tf.Tensor:
        """float32 [B, S, (left, top, right, bottom)] within pictures of sizes [B, (width, height)]; with `same`, S = 1.

        An index per branch is [B, S], and sizes [B, S, 2]. A branch that does not zoom has a window without area.
        Sizes of films say too of how many frames one may be a clip's first: [B, S, (window, first frame)]. A branch
        whose policy is `none` takes the clip in the middle.
        """
        first = [_zoom(pieces) for pieces in self._pieces[: self.drawn]]
        zooms = [piece if isinstance(piece, ResizedCrop) else None for piece in first]
        index, sizes = tf.convert_to_tensor(index), tf.convert_to_tensor(sizes)
        if index.shape.rank == 1:
            index, sizes = index[:, None], sizes[:, None]
        draws = CounterRng(self.seed, epoch, index, tf.range(self.drawn))  # of all branches at once: [B, S]
        least = tf.constant([zoom.min_area if zoom else 1.0 for zoom in zooms])
        facts = tf.broadcast_to(sizes, [tf.shape(index)[0], self.drawn, sizes.shape[-1]])
        sizes = facts[..., :2]
        places = tf.cast(windows(sizes, least, draws, _stream(0, ResizedCrop())), tf.float32)
        places *= tf.constant([[float(zoom is not None)] for zoom in zooms])
        if any(isinstance(piece, ShortSide) for piece in first):
            places += _short_sides(sizes, first, draws)
        if any(isinstance(piece, SimpleCrop) for piece in first):
            places += _beside(sizes, self.image_size, first, draws)
        return places if facts.shape[-1] == 2 else tf.concat([places, self._starts(facts[..., 2:], draws)], axis=-1)

    def _starts(self, count: tf.Tensor, draws: CounterRng) -> tf.Tensor:
        """float32 [B, S, 1]: a clip's first frame of `count` [B, S, 1], or -1 for the one in the middle."""
        start = tf.cast(draws.below("first frame", count[..., 0]), tf.float32)[..., None]
        moves = tf.constant([[bool(pieces)] for pieces in self._pieces[: self.drawn]])
        return tf.where(moves, start, -1.0)


ZOOMS = (ResizedCrop, ShortSide, SimpleCrop)


def _zoom(pieces: Sequence[Piece]) -> ResizedCrop | ShortSide | SimpleCrop | None:
    """The crop a policy begins with: what stands before another one works on squares already."""
    return pieces[0] if pieces and isinstance(pieces[0], ZOOMS) else None


def _short_sides(sizes: tf.Tensor, first: Sequence[Piece | None], draws: CounterRng) -> tf.Tensor:
    """float32 [B, S, 4]: the squares of the branches that begin so, 0 of the others."""
    pieces = [piece if isinstance(piece, ShortSide) else None for piece in first]
    least, most = (
        tf.constant([getattr(piece, name) if piece else 1.0 for piece in pieces]) for name in ("least", "most")
    )
    places = squares(sizes, least, most, draws, _stream(0, ShortSide()))
    return places * tf.constant([[float(piece is not None)] for piece in pieces])


def _beside(sizes: tf.Tensor, side: int, first: Sequence[Piece | None], draws: CounterRng) -> tf.Tensor:
    """float32 [B, S, 4]: the windows of the branches that begin with a simple crop, 0 of the others."""
    pieces = [piece if isinstance(piece, SimpleCrop) else None for piece in first]
    padding = tf.constant([piece.padding if piece else 0 for piece in pieces])
    places = beside(sizes, side, padding, draws, _stream(0, SimpleCrop()))
    return places * tf.constant([[float(piece is not None)] for piece in pieces])


def _stream(place: int, piece: Piece) -> str:
    """The place keeps the draws of two equal pieces apart."""
    return f"{place} {type(piece).__name__}"


def seen(
    images: tf.Tensor,
    pieces: Sequence[Piece],
    draws: CounterRng,
    fill: operations.Fill,
    cut: bool = False,
    apply: Mapping[type, Apply] = _APPLY,
) -> tf.Tensor:
    """The pieces in order; those that only move or cover pixels wait in a frame until something needs the pixels."""
    frame: PixelMap | None = None
    for place, piece in enumerate(pieces):
        if cut and place == 0 and isinstance(piece, ZOOMS):
            continue  # done where the picture was decoded
        stream = _stream(place, piece)
        framed = isinstance(piece, MOVES + COVERS)
        if frame and (not framed or (frame.covers and isinstance(piece, MOVES))):
            images, frame = frame.view(), None
        if framed:
            frame = frame or PixelMap(images, fill)
            frame.add(piece, draws, stream)
        else:
            images = apply[type(piece)](images, piece, draws, stream, fill)
    return frame.view() if frame else images
