"""Means of losses over pixels, and metrics of segmentation. Pixels that are VOID in the masks do not count."""

import keras
import tensorflow as tf

from dico_tf.cotrain.losses import combine
from dico_tf.data.segmentation import VOID


def enlarged(logits: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """Resize logits [..., h, w, C] to the size of masks [B, H, W], bilinearly like the networks' last layer."""
    shape, size = tf.shape(logits), tf.shape(like)[1:3]
    large = tf.image.resize(tf.reshape(logits, tf.concat([[-1], shape[-3:]], 0)), size)
    large = tf.reshape(large, tf.concat([shape[:-3], size, shape[-1:]], 0))
    return tf.ensure_shape(large, [*logits.shape[:-3], None, None, logits.shape[-1]])


def valid(masks: tf.Tensor) -> tf.Tensor:
    """Return the number of pixels with a class in each image: float32 [B]."""
    return tf.reduce_sum(tf.cast(masks != VOID, tf.float32), [1, 2])


def mean(values: tf.Tensor, masks: tf.Tensor) -> tf.Tensor:
    """Return [B]: for each image, the mean of values [B, H, W] over its pixels that have a class, or 0 without any."""
    known = tf.where(masks == VOID, 0.0, values)
    return tf.reduce_sum(known, [1, 2]) / tf.maximum(valid(masks), 1.0)


def shares(masks: tf.Tensor) -> tf.Tensor:
    """Return the weight of each image [B], proportional to its pixels with a class; mean 1 over the global batch."""
    own = valid(masks)
    context = tf.distribute.get_replica_context()
    pixels = context.all_reduce(tf.distribute.ReduceOp.SUM, tf.reduce_sum(own))
    images = tf.cast(tf.shape(own)[0] * context.num_replicas_in_sync, tf.float32)
    return own * images / tf.maximum(pixels, 1.0)


@keras.saving.register_keras_serializable("dico_tf")
class Confusion(keras.metrics.Metric):
    """Metric: confusion matrix of pixels [C, C] with the true class in the rows. The result is the mean IoU."""

    def __init__(self, classes: int, **options):
        super().__init__(**options)
        self.classes = classes
        self.counts = self.add_variable((classes, classes), "zeros", dtype="int64", name="counts")

    def update_state(self, answers, masks):
        """Add the pixels of predicted classes [B, H, W] and masks [B, H, W], except where a mask is void."""
        known = masks != VOID
        pairs = tf.boolean_mask(masks * self.classes + tf.cast(answers, masks.dtype), known)
        size = self.classes**2
        counts = tf.math.bincount(pairs, minlength=size, maxlength=size, dtype=tf.int64)
        self.counts.assign_add(tf.reshape(counts, (self.classes, self.classes)))

    def result(self):
        """Return mean_c TP / (TP + FP + FN) over the classes in the masks or the predictions; 0 if there are none."""
        counts = tf.cast(tf.convert_to_tensor(self.counts), tf.float64)
        both = tf.linalg.diag_part(counts)
        union = tf.reduce_sum(counts, 0) + tf.reduce_sum(counts, 1) - both
        occurs = tf.cast(union > 0, tf.float64)
        return tf.cast(
            tf.math.divide_no_nan(tf.reduce_sum(tf.math.divide_no_nan(both, union)), tf.reduce_sum(occurs)), tf.float32
        )

    def accuracy(self):
        """Return the share of correct pixels among those with a class; 0 if there are none."""
        counts = tf.cast(tf.convert_to_tensor(self.counts), tf.float64)
        return tf.cast(tf.math.divide_no_nan(tf.linalg.trace(counts), tf.reduce_sum(counts)), tf.float32)

    def get_config(self):
        return {**super().get_config(), "classes": self.classes}


class PixelScores:
    """Running metrics of segmentation: losses per pixel, and mean IoU of each branch and of the ensemble."""

    best_by = "ensemble_miou"

    def __init__(self, splits: int, classes: int, average: str):
        self.average = average
        self.loss = keras.metrics.Mean(name="loss")
        self.agreement = keras.metrics.Mean(name="agreement")
        self.branch_loss = [keras.metrics.Mean(name=f"branch_{s}_loss") for s in range(splits)]
        self.branch = [Confusion(classes, name=f"branch_{s}_miou") for s in range(splits)]
        self.ensemble = Confusion(classes, name="ensemble_miou")

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return [self.loss, self.agreement, *self.branch_loss, *self.branch, self.ensemble]

    def update(self, logits, masks, losses, agreement, total) -> None:
        """Add a batch: logits [B, S, H, W, C], masks [B, H, W]; per image losses [B, S], agreement and total [B]."""
        pixels = valid(masks)  # weighted by pixels, the means do not depend on the batch size
        self.loss.update_state(total, pixels)
        self.agreement.update_state(agreement, pixels)
        for s, (loss, confusion) in enumerate(zip(self.branch_loss, self.branch, strict=True)):
            loss.update_state(losses[:, s], pixels)
            confusion.update_state(tf.argmax(logits[:, s], -1), masks)
        self.ensemble.update_state(tf.argmax(combine(logits, self.average), -1), masks)

    def results(self, shared: bool = True) -> dict[str, object]:
        """Return the running metrics by their keys in metrics.jsonl; accuracies are shares of pixels.

        Args:
            shared: has no effect; in segmentation all branches see the same images.
        """
        return {
            "loss": float(self.loss.result()),
            "agreement": float(self.agreement.result()),
            "branch_miou": [float(confusion.result()) for confusion in self.branch],
            "ensemble_miou": float(self.ensemble.result()),
            "branch_accuracy": [float(confusion.accuracy()) for confusion in self.branch],
            "ensemble_accuracy": float(self.ensemble.accuracy()),
        }
