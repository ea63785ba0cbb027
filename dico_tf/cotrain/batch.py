"""What a training step is handed, in the shapes people hand it over."""

import dataclasses
from typing import Any

import keras
import tensorflow as tf

from dico_tf.errors import UserError


@dataclasses.dataclass(frozen=True)
class Batch:
    """image [B, H, W, 3], label [B], index [B]; with an order per branch [B, S, H, W, 3], [B, S], [B, S].

    Images that are `cut` show each branch its window of the picture: [B, S, H, W, 3] in any order.
    Of clips [T, H, W, 3] stands wherever [H, W, 3] does.
    """

    image: tf.Tensor
    label: tf.Tensor
    index: tf.Tensor | None  # None: number by position
    cut: bool = False

    @property
    def shared(self) -> bool:
        """All branches see the same images."""
        return self.label.shape.rank == 1

    def of(self, branch: int) -> "Batch":
        if self.shared:
            return self
        return Batch(self.image[:, branch], self.label[:, branch], self.index[:, branch], self.cut)


def unpack(data: Any) -> Batch:
    """{"image", "label", "index"}, (images, labels), or ({"image", "index"}, labels).

    With "window" [B, S, 4], the places in the whole pictures, the images are what was cut there.
    """
    inputs, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
    if weights is not None:
        raise UserError("co-training has no sample weights: leave out sample_weight and class_weight")
    index, cut = None, isinstance(inputs, dict) and "window" in inputs
    if isinstance(inputs, dict):
        labels = inputs["label"] if labels is None and "label" in inputs else labels
        inputs, index = inputs["image"], inputs.get("index")
    if labels is None:
        raise UserError("a step needs labels: give fit(images, labels), or batches of image, label and index")
    inputs, labels = tf.convert_to_tensor(inputs), tf.cast(labels, tf.int64)  # run eagerly, Keras hands over NumPy's
    if inputs.shape.rank == 4 and labels.shape.rank == 2:
        if labels.shape[1] != 1:
            raise UserError(f"labels are class numbers [B], not {labels.shape}: take the argmax of one-hot labels")
        labels = labels[:, 0]  # as keras.datasets deliver them
    batch = Batch(inputs, labels, None if index is None else tf.cast(index, tf.int64), cut)
    if not batch.shared and (batch.index is None or batch.index.shape.rank != 2):
        raise UserError("a batch with an order per branch needs the images' numbers: give index [B, S]")
    return batch
