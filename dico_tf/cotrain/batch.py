"""A batch of images and labels, in the forms that Keras and the training loop pass to a step."""

import dataclasses
from typing import Any

import keras
import tensorflow as tf

from dico_tf.errors import UserError


@dataclasses.dataclass(frozen=True)
class Batch:
    """Images, labels and image numbers. Clips have [T, H, W, 3] in place of [H, W, 3].

    Attributes:
        image: [B, H, W, 3]; [B, S, H, W, 3] if each branch has its own images or its own windows of them.
        label: class numbers [B], or [B, S] if each branch has its own images; masks [B, H, W] in segmentation.
        index: the number of each image in the data set, [B] or [B, S]; None: its position in the epoch is its number.
        cut: True if the images are windows, one for each branch, cut out of larger images.
    """

    image: tf.Tensor
    label: tf.Tensor
    index: tf.Tensor | None
    cut: bool = False

    @property
    def shared(self) -> bool:
        """True if all branches see the same images, or each its own windows of the same images."""
        return self.label.shape.rank != 2

    def of(self, branch: int) -> "Batch":
        """Return one branch's images, labels and numbers, or the batch itself if it is `shared`."""
        if self.shared:
            return self
        return Batch(self.image[:, branch], self.label[:, branch], self.index[:, branch], self.cut)


def unpack(data: Any) -> Batch:
    """Convert {"image", "label", "index"}, (images, labels) or ({"image", "index"}, labels) to a Batch.

    Labels are class numbers [B], or for images also [B, 1]. If each branch has its own images, labels and "index" are
    [B, S]; otherwise "index" may be left out. If the dictionary has a key "window", with any value, its "image"
    [B, S, H, W, 3] holds one window for each branch, cut out of a larger image.

    Raises:
        UserError: with sample weights, without labels, or if labels have another shape.
    """
    inputs, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
    if weights is not None:
        raise UserError("co-training does not support sample weights: leave out sample_weight and class_weight")
    index, cut = None, isinstance(inputs, dict) and "window" in inputs
    if isinstance(inputs, dict):
        labels = inputs["label"] if labels is None and "label" in inputs else labels
        inputs, index = inputs["image"], inputs.get("index")
    if labels is None:
        raise UserError('labels are missing: give fit(images, labels), or batches {"image", "label", "index"}')
    inputs, labels = tf.convert_to_tensor(inputs), tf.cast(labels, tf.int64)  # an eager Keras passes numpy arrays
    if inputs.shape.rank == 4 and labels.shape.rank == 2:
        if labels.shape[1] != 1:
            raise UserError(
                f"expected class numbers [B] as labels, got shape {labels.shape}: take the argmax of one-hot labels"
            )
        labels = labels[:, 0]  # keras.datasets returns labels [B, 1]
    index = None if index is None else tf.cast(index, tf.int64)
    own = labels.shape.rank == 2 and index is not None and index.shape.rank == 2
    if labels.shape.rank != 1 and not own:
        raise UserError(
            "expected class numbers [B] as labels, or labels and index [B, S] if each branch has its own images; got "
            f"labels of shape {labels.shape} and {'no index' if index is None else f'index of shape {index.shape}'}"
        )
    return Batch(inputs, labels, index, cut)
