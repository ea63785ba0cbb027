"""Segmentation: one class for each pixel, learned on crops that all branches share."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from dico_tf.cotrain import segmentation_losses as pixels
from dico_tf.cotrain.batch import Batch
from dico_tf.cotrain.sliding_inference import Windowed
from dico_tf.cotrain.tasks.task import BranchNetworks, Task, Truth
from dico_tf.data.segmentation import VOID
from dico_tf.errors import UserError
from dico_tf.layers.image_input import Normalisation
from dico_tf.models import segmentation
from dico_tf.views.segmentation_views import SegmentationViews


class Segmentation(Task):
    """Task `segmentation`: logits [B, S, h, w, C] at the output stride; masks are [B, H, W].

    Void pixels and pixels outside of the image are left out of every loss and score. Networks built for one image size
    are trained on crops of that size and applied to larger images window by window.
    """

    def __init__(self, settings, network):
        super().__init__(settings, network)
        self.fill = tuple(255.0 * mean for mean in settings.mean)
        self.views = SegmentationViews(
            settings.views,
            settings.splits,
            settings.seed,
            self.fill,
            same=settings.same_views,
            image_size=settings.image_size,
        )

    def make_scores(self) -> pixels.PixelScores:
        return pixels.PixelScores(self.settings.splits, self.settings.classes, self.settings.average)

    def build(self, network: Any, normalisation: Normalisation) -> BranchNetworks:
        size = self.settings.image_size
        branch = network.build(size if network.fixed else (None, None), self.settings.classes, normalisation)
        coarse = segmentation.coarse(branch)
        learner = network.family.learner(network.spec, branch) if self.settings.auxiliary_weight else coarse
        seen = Windowed(coarse, size, network.spec.output_stride, self.fill) if network.fixed else coarse
        return BranchNetworks(branch, learner, seen)

    def unpack(self, data: Any) -> Batch:
        """Convert {"image", "label", "index"}, (images, masks) or ({"image", "index"}, masks) to a Batch.

        Raises UserError with sample weights, without masks, or if shapes do not fit.
        """
        inputs, masks, weights = keras.utils.unpack_x_y_sample_weight(data)
        if weights is not None:
            raise UserError(
                "co-training does not support sample weights: leave out sample_weight and class_weight; give the label "
                "255 (void) to pixels that must not count"
            )
        index = None
        if isinstance(inputs, dict):
            masks = inputs.get("label") if masks is None else masks
            inputs, index = inputs["image"], inputs.get("index")
        if masks is None:
            raise UserError('masks are missing: give fit(images, masks), or batches {"image", "label", "index"}')
        images, masks = tf.convert_to_tensor(inputs), tf.cast(masks, tf.int32)
        if masks.shape.rank != 3 or images.shape.rank != 4:
            raise UserError(f"expected images [B, H, W, 3] and masks [B, H, W], got {images.shape} and {masks.shape}")
        return Batch(images, masks, None if index is None else tf.cast(index, tf.int64))

    def inputs(self, batch: Batch, epoch: Any, step: Any, teach: Callable) -> tuple[list[tf.Tensor], Truth]:
        views, masks = self.views.pair(batch.image, batch.label, batch.index, epoch)
        return views, {"masks": masks, "shares": pixels.shares(masks), "extra_targets": teach(views, batch)}

    def truth(self, batch: Batch) -> Truth:
        return {"masks": batch.label}

    def targets(self, truth: Truth) -> list[tf.Tensor]:
        return [tf.one_hot(truth["masks"], self.settings.classes)] * self.settings.splits

    def update(self, scores: pixels.PixelScores, answers, truth: Truth, terms: tuple, shared: bool) -> None:
        scores.update(answers, truth["masks"], *terms)

    def check_labels(self, labels: np.ndarray) -> None:
        super().check_labels(labels[labels != VOID])

    def mean(self, values, truth: Truth):
        return pixels.mean(values, truth["masks"])

    def units(self, truth: Truth):
        return pixels.valid(truth["masks"])

    def shares(self, truth: Truth):
        return truth["shares"]

    def at_label_size(self, logits, truth: Truth):
        return pixels.enlarged(logits, truth["masks"])
