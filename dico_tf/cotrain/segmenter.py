"""S branches of a divided segmentation network, co-trained on the same crops in lights of their own."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from dico_tf.cotrain import gradients as grads
from dico_tf.cotrain import pixels
from dico_tf.cotrain.batch import Batch
from dico_tf.cotrain.dico import DiCo
from dico_tf.cotrain.whole_pictures import Windowed, as_large
from dico_tf.data.masks import VOID
from dico_tf.errors import UserError
from dico_tf.views.scene_views import SceneViews


@keras.saving.register_keras_serializable("dico_tf")
class Segmenter(DiCo):
    """logits [B, S, h, w, C] at the output stride from raw images [B, H, W, 3] of any size; masks [B, H, W].

    Takes DiCo's arguments but for mixing; the branches themselves answer as large as the picture. Networks of one size
    see crops of it in training, and else pictures of any size window by window.
    """

    tasks = ("segmentation",)

    def __init__(self, model: str | dict[str, Any], splits: int = 1, *, auxiliary_weight: float = 0.5, **settings):
        self.auxiliary_weight = auxiliary_weight
        self._coarse, self._learners = [], []
        for name in ("mixup", "cutmix"):
            if settings.get(name):
                raise UserError(f"{name}={settings[name]} mixes whole images: segmentation has none, give 0")
        if settings.get("cascade_aware"):
            raise UserError("cascade_aware=True weighs whole images, and these have classes of pixels: leave it out")
        if settings.get("training", "together") != "together":
            raise UserError("training='independent': branches of a Segmenter share crops; give agreement='none'")
        super().__init__(model, splits, **settings)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "auxiliary_weight": self.auxiliary_weight}

    @property
    def learners(self) -> Sequence[keras.Model]:
        return self._learners

    def _make_views(self, fill: Sequence[float]) -> SceneViews:
        settings = self._settings
        names = {"same": settings["same_views"], "image_size": settings["image_size"]}
        return SceneViews(settings["views"], self.splits, settings["seed"], fill, **names)

    def _make_scores(self) -> pixels.PixelScores:
        return pixels.PixelScores(self.splits, self.classes, self.average)

    def _build_branch(self, network: Any, normalisation: Any) -> keras.Model:
        window = self._settings["image_size"]
        branch = network.build(window if network.fixed else (None, None), self.classes, normalisation)
        coarse, second = network.family.coarse(branch), self.auxiliary_weight > 0
        self._learners.append(network.family.learner(network.spec, branch) if second else coarse)
        fill = [255 * mean for mean in self._settings["mean"]]
        stride = network.spec.output_stride
        self._coarse.append(Windowed(coarse, window, stride, fill) if network.fixed else coarse)
        return branch

    @property
    def readers(self) -> list[Callable]:
        """Each branch as it answers pictures of any size: [B, H, W, 3] -> [B, H, W, C]."""
        both = zip(self.branches, self._coarse, strict=True)
        return [as_large(coarse) if isinstance(coarse, Windowed) else branch for branch, coarse in both]

    def _check_labels(self, y: np.ndarray) -> None:
        super()._check_labels(y[y != VOID])

    def call(self, inputs, training=False):
        images = inputs["image"] if isinstance(inputs, dict) else inputs
        return keras.ops.stack([coarse(images, training=training) for coarse in self._coarse], axis=1)

    def train_step(self, data):
        batch = self._numbered(_unpack(data))
        views, masks = self.views.pair(batch.image, batch.label, batch.index, self.epoch)
        inputs = [*views, masks, pixels.shares(masks)]
        logits, gradients = grads.in_pieces(self._learn, inputs, self.accumulation)
        self.optimizer.apply(self._decayed(gradients), self.branch_variables)
        self._score(logits, masks)
        self._count(batch)
        return self.get_metrics_result()

    def test_step(self, data):
        batch = _unpack(data)
        self._score(self(batch.image, training=False), batch.label)
        return self.get_metrics_result()

    def _learn(self, *inputs):
        """Views, masks and shares of one piece -> its logits [B, S, h, w, C] and gradients over the global batch."""
        views, (masks, shares) = inputs[: self.splits], inputs[self.splits :]
        replicas = tf.distribute.get_replica_context().num_replicas_in_sync
        with tf.GradientTape() as tape:
            heads = [self._heads(learner, view) for learner, view in zip(self.learners, views, strict=True)]
            logits = tf.stack([first for first, *_ in heads], axis=1)
            *_, total = self._terms(self._enlarged(logits, masks), masks)
            total += sum(self._auxiliary(second, masks) for _, *rest in heads for second in rest)
            size = tf.cast(tf.size(total), tf.float32)
            objective = tf.reduce_sum(shares * total) / (size * self.accumulation * replicas)
            objective = self.optimizer.scale_loss(objective)
        return logits, tape.gradient(objective, self.branch_variables)

    def _heads(self, learner: keras.Model, view) -> list:
        """What is learned from: logits [B, h, w, C] of the head and of the second one."""
        return tf.nest.flatten(learner(view, training=True))

    def _enlarged(self, logits, masks):
        """[B, S, h, w, C] -> [B, S, H, W, C]"""
        return tf.stack([pixels.enlarged(logits[:, s], masks) for s in range(self.splits)], axis=1)

    def _cross_entropy(self, logits, masks):
        return pixels.mean(pixels.cross_entropy(logits, masks, self.label_smoothing), masks)

    def _auxiliary(self, logits, masks):
        return self.auxiliary_weight * self._cross_entropy(pixels.enlarged(logits, masks), masks)

    def _terms(self, logits, masks):
        """Of logits [B, S, H, W, C]: cross-entropies [B, S], agreement [B], and their sum [B], over valid pixels.

        What lies outside of a picture or has no class is neither learned nor scored, so nothing is gained by agreeing
        on it, and both terms keep their proportion whatever share of an image is void.
        """
        losses = tf.stack([self._cross_entropy(logits[:, s], masks) for s in range(self.splits)], axis=1)
        agreement = pixels.mean(self.agreement(logits), masks)
        total = tf.reduce_sum(losses, axis=1) + self.agreement.weight(self.epoch) * agreement
        return losses, agreement, total

    def _score(self, logits, masks) -> None:
        large = self._enlarged(logits, masks)
        self.scores.update(large, masks, *self._terms(large, masks))


def _unpack(data: Any) -> Batch:
    """{"image", "label", "index"} or (images, masks)."""
    inputs, masks, weights = keras.utils.unpack_x_y_sample_weight(data)
    if weights is not None:
        raise UserError("co-training has no sample weights: leave out sample_weight, and mark pixels as void (255)")
    index = None
    if isinstance(inputs, dict):
        masks = inputs.get("label") if masks is None else masks
        inputs, index = inputs["image"], inputs.get("index")
    if masks is None:
        raise UserError("a step needs masks: give fit(images, masks), or batches of image, label and index")
    images, masks = tf.convert_to_tensor(inputs), tf.cast(masks, tf.int32)
    if masks.shape.rank != 3 or images.shape.rank != 4:
        raise UserError(f"images are {images.shape} and masks {masks.shape}: give [B, H, W, 3] and [B, H, W]")
    return Batch(images, masks, None if index is None else tf.cast(index, tf.int64))
