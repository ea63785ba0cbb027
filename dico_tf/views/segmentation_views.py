"""The views of a batch of images with segmentation masks.

The agreement loss compares the branches' predictions for each pixel, so all views of an image must show the same part
of it. Pieces of a policy that move pixels (scale, crop and flip) are drawn once per image, for the mask and all
branches. The other pieces, such as colour changes, are drawn for each branch.
"""

from typing import Any

import keras
import tensorflow as tf

from dico_tf.views.counter_rng import CounterRng
from dico_tf.views.piece import SharedPiece
from dico_tf.views.policies import parse_all, shared_and_own
from dico_tf.views.view_maker import ViewMaker, apply_policy


@keras.saving.register_keras_serializable("dico_tf", name="SceneViews")  # the name in files saved since version 0
class SegmentationViews(ViewMaker):
    """Makes S views of images [B, h, w, 3] that have masks [B, h, w]; all views of an image share its mask."""

    needs_windows = True  # the crop is cut where images are read

    def _parse(self) -> None:
        parsed = parse_all(self.policies, self.splits, "segmentation")
        self._shared = shared_and_own(parsed[0])[0]
        self._own = [shared_and_own(policy)[1] for policy in parsed]

    def windows(self, index: tf.Tensor, sizes: tf.Tensor, epoch: Any) -> tf.Tensor:
        """Draw the crop of each image, int32 [B, (width, height, left, top)].

        The image is resized to width x height, and the crop of `image_size` pixels begins at (left, top) of it. If the
        resized image is smaller than the crop, it lies inside the crop, and left and top are negative or 0. Without a
        piece that crops, the crop is in the middle.

        Args:
            index: numbers of the images in the data set, [B].
            sizes: (width, height) of the images, [B, 2].
        """
        rng = CounterRng(self.seed, epoch, index)
        factor = tf.ones(tf.shape(sizes)[:1])
        for piece in self._shared:
            factor *= piece.resize_factor(_scope(rng, piece))
        resized = tf.maximum(tf.cast(tf.round(tf.cast(sizes, tf.float32) * factor[:, None]), tf.int32), 1)
        room = resized - self.image_size
        corners = [piece.corner(room, _scope(rng, piece)) for piece in self._shared]
        corner = next((corner for corner in corners if corner is not None), room // 2)
        return tf.concat([resized, corner], axis=1)

    def pair(
        self, images: tf.Tensor, masks: tf.Tensor, index: tf.Tensor, epoch: Any
    ) -> tuple[list[tf.Tensor], tf.Tensor]:
        """Return S views, float32 [B, h, w, 3] in 0..255, and the masks [B, h, w] that they share.

        Args:
            images: [B, h, w, 3] in 0..255, already resized and cropped to the `windows`; the masks too.
        """
        rng = CounterRng(self.seed, epoch, index)
        images = tf.cast(images, tf.float32)
        for piece in self._shared:
            images, masks = (piece.move(pixels, _scope(rng, piece)) for pixels in (images, masks))
        views = []
        for branch in range(self.distinct):
            rng = CounterRng(self.seed, epoch, index, branch)
            views.append(apply_policy(images, self._own[branch], rng, self.fill, in_place=True))
        return (views * self.splits if self.same else views), masks

    def __call__(self, images: tf.Tensor, index: tf.Tensor, epoch: Any, cut: bool = False) -> list[tf.Tensor]:
        """Return S views of images without masks; `cut` has no effect."""
        return self.pair(images, tf.zeros(tf.shape(images)[:3], tf.uint8), index, epoch)[0]


def _scope(rng: CounterRng, piece: SharedPiece) -> CounterRng:
    return rng.scope(type(piece).__name__.lower())
