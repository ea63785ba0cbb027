"""S branches of a divided network, co-trained on their own views of the same images."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from dico_tf.config import DIVISIONS, without_removed
from dico_tf.cotrain import gradients as grads
from dico_tf.cotrain.batch import Batch, unpack
from dico_tf.cotrain.losses import AGREEMENTS, AVERAGES, TARGETS, Agreement, doubt, present, smooth
from dico_tf.cotrain.scores import Scores
from dico_tf.errors import UserError
from dico_tf.layers import stochastic_depth
from dico_tf.layers.image import Normalisation
from dico_tf.models.menu import find
from dico_tf.registry import suggestion
from dico_tf.views.mixing import Mixing
from dico_tf.views.views import Views


class Epochs(keras.callbacks.Callback):
    """Tells the model which epoch it is in and numbers images from 0 again."""

    def on_epoch_begin(self, epoch, logs=None):
        self.model.begin_epoch(epoch)


CHOICES = {
    "division": DIVISIONS,
    "training": ("together", "independent"),
    "agreement": (*AGREEMENTS, "none"),
    "average": AVERAGES,
    "target": TARGETS,
}


def _check(settings: Mapping[str, Any]) -> None:
    for name, choices in CHOICES.items():
        if settings[name] not in choices:
            raise UserError(f"{name}={settings[name]!r}: {suggestion(settings[name], choices)}")
    for name in ("splits", "classes", "accumulation"):
        if settings[name] < 1:
            raise UserError(f"{name}={settings[name]} must be at least 1")
    smoothing = settings["label_smoothing"]
    if smoothing and settings["target"] == "binary":
        raise UserError(f"label_smoothing={smoothing} would make every class present of a binary target: give 0")


@keras.saving.register_keras_serializable("dico_tf")
class DiCo(keras.Model):
    """logits [B, S, C] from raw images [B, H, W, 3] or clips [B, T, H, W, 3]; weight_decay is a branch's own (L2)."""

    tasks = ("classification", "video")

    def __init__(
        self,
        model: str | dict[str, Any],
        splits: int = 1,
        *,
        division: str = "published",
        classes: int,
        image_size: int = 32,
        frames: int = 0,
        views: Sequence[str] = ("crop+flip",),
        same_views: bool = False,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        training: str = "together",
        agreement: str = "js",
        agreement_weight: float = 0.5,
        agreement_warmup_epochs: int = 0,
        target: str = "softmax",
        label_smoothing: float = 0.0,
        drop_path: float = -1.0,
        drop_form: str = "auto",
        cascade_aware: bool = False,
        average: str = "logits",
        weight_decay: float = 0.0,
        clip_norm: float = 0.0,
        accumulation: int = 1,
        sync_batch_norm: bool = False,
        mean: Sequence[float] = Normalisation().mean,
        std: Sequence[float] = Normalisation().std,
        seed: int = 0,
        **options,
    ):
        super().__init__(**options)
        views = (views,) if isinstance(views, str) else tuple(views)
        network = self._of_its_task(find(model)).dropping(drop_path)
        if frames:
            network = network.filmed(frames)  # multiply-adds depend on them, and so does a division by these
        self._settings = {
            "model": network.reference, "splits": splits, "division": division, "classes": classes,
            "image_size": image_size, "frames": frames, "views": views, "same_views": same_views,
            "mixup": mixup, "cutmix": cutmix, "training": training,
            "agreement": agreement, "agreement_weight": agreement_weight,
            "agreement_warmup_epochs": agreement_warmup_epochs, "target": target, "label_smoothing": label_smoothing,
            "drop_path": drop_path, "drop_form": drop_form, "cascade_aware": cascade_aware, "average": average,
            "weight_decay": weight_decay, "clip_norm": clip_norm, "accumulation": accumulation,
            "sync_batch_norm": sync_batch_norm, "mean": tuple(mean), "std": tuple(std), "seed": seed,
        }  # fmt: skip
        _check(self._settings)
        self.splits, self.classes, self.average = splits, classes, average
        self.independent = training == "independent"
        self.target, self.label_smoothing, self.accumulation = target, label_smoothing, accumulation
        self.cascade_aware = cascade_aware
        self.weight_decay, self.clip_norm = weight_decay, clip_norm
        fill = tuple(255.0 * m for m in mean)
        self.views = self._make_views(fill)
        self.mixing = Mixing(mixup, cutmix, seed)
        self.agreement = Agreement("none" if self.independent else agreement, agreement_weight, agreement_warmup_epochs)
        self.branches = self._build_branches(network.divided(splits, division, image_size, classes))
        self._synchronise(sync_batch_norm)
        self._set_drop_form(drop_form, network.name)
        self.epoch, self.step, self.seen = (self._counter(name) for name in ("epoch", "step", "seen"))
        self.scores = self._make_scores()
        self.built = True

    def _of_its_task(self, network: Any) -> Any:
        if network.task not in self.tasks:
            raise UserError(
                f"{network.name} is for {network.task}, and {type(self).__name__} learns {' and '.join(self.tasks)}: "
                "give another model, or the class for it"
            )
        return network

    def _synchronise(self, synchronized: bool) -> None:
        for layer in (layer for branch in self.learners for layer in branch.layers):
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.synchronized = synchronized

    def _set_drop_form(self, form: str, name: str) -> None:
        for learner in self.learners:
            stochastic_depth.set_form(learner, form)
        if form == "efficient" and not stochastic_depth.droppings(self.branches[0]):
            raise UserError(
                f"drop_form='efficient': {name} drops no residual branch that could be left uncomputed; give 'auto' "
                "(--drop_form=auto), or another model"
            )

    def _make_views(self, fill: Sequence[float]) -> Views:
        settings = self._settings
        names = {"same": settings["same_views"], "image_size": settings["image_size"]}
        return Views(settings["views"], self.splits, settings["seed"], fill, **names)

    def _make_scores(self) -> Scores:
        return Scores(self.splits, self.average)

    def _build_branches(self, network: Any) -> list[keras.Model]:
        settings, before = self._settings, keras.config.dtype_policy()
        normalisation = Normalisation(mean=settings["mean"], std=settings["std"])
        keras.config.set_dtype_policy(self.dtype_policy)
        try:
            branches = [self._build_branch(network, normalisation) for _ in range(self.splits)]
        finally:
            keras.config.set_dtype_policy(before)
        for s, branch in enumerate(branches):
            branch.name = f"branch_{s}"
            grads.spare_scales(branch)
        return branches

    def _build_branch(self, network: Any, normalisation: Normalisation) -> keras.Model:
        return network.build(self._settings["image_size"], self.classes, normalisation)

    @property
    def learners(self) -> Sequence[keras.Model]:
        """The branches with all that only training has."""
        return self.branches

    def _counter(self, name: str):
        return self.add_weight(
            shape=(), dtype="int64", initializer="zeros", trainable=False, name=name, aggregation="only_first_replica"
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self._settings}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls(**without_removed(config, f"the saved {cls.__name__}"))

    @property
    def metrics(self):
        return self.scores.metrics

    @property
    def branch_variables(self) -> list:
        """Trainable variables, branch after branch: the optimizer's order."""
        return [v for learner in self.learners for v in learner.trainable_variables]

    def begin_epoch(self, epoch: int) -> None:
        self.epoch.assign(epoch)
        self.seen.assign(0)

    def compile(self, optimizer="sgd", **options):
        """Takes Keras' options but for loss and metrics, which are DiCo's own."""
        refused = [n for n in ("loss", "metrics", "weighted_metrics", "loss_weights") if options.get(n)]
        if refused:
            raise UserError(f"DiCo brings its own loss and metrics: leave out {', '.join(refused)}")
        super().compile(optimizer=optimizer, **{"jit_compile": False, **options})  # XLA has no dynamic groups of views

    def compile_from_config(self, config):
        """A reloaded model goes on with its optimizer's state."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.branch_variables)

    def fit(self, x=None, y=None, *, callbacks=None, **options):
        if y is not None and not isinstance(x, dict):
            x = {"image": x, "index": np.arange(len(x))}
        if isinstance(y, np.ndarray):
            self._check_labels(y)
        callbacks = [] if callbacks is None else callbacks
        if isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks.append(Epochs())
        else:
            callbacks = [*(callbacks if isinstance(callbacks, (list, tuple)) else [callbacks]), Epochs()]
        return super().fit(x, y, callbacks=callbacks, **options)

    def _check_labels(self, y: np.ndarray) -> None:
        if y.size and not 0 <= y.min() <= y.max() < self.classes:
            raise UserError(
                f"labels run from {y.min()} to {y.max()}: {self.classes} classes are 0 to {self.classes - 1}"
            )

    def call(self, inputs, training=False):
        images = inputs["image"] if isinstance(inputs, dict) else inputs
        return keras.ops.stack([branch(images, training=training) for branch in self.branches], axis=1)

    def train_step(self, data):
        batch = self._numbered(unpack(data))
        views, targets = self._inputs(batch)
        goals = [self._goal(t) for t in targets]
        variables = self.branch_variables
        logits, gradients = grads.in_pieces(self._learn, [*views, *goals], self.accumulation)
        self.optimizer.apply(self._decayed(gradients), variables)
        self._score(logits, targets, goals, batch.shared)
        self._count(batch)
        return self.get_metrics_result()

    def test_step(self, data):
        batch = unpack(data)
        logits = self(batch.image, training=False)
        targets = [tf.one_hot(batch.label, self.classes)] * self.splits
        self._score(logits, targets, targets, True)
        return self.get_metrics_result()

    def _count(self, batch: Batch) -> None:
        self.step.assign_add(1)
        self.seen.assign_add(_global_size(batch))

    def _numbered(self, batch: Batch) -> Batch:
        if batch.index is not None:
            return batch
        size = tf.shape(batch.label, tf.int64)[0]
        replica = tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, tf.int64)
        return dataclasses.replace(batch, index=self.seen + replica * size + tf.range(size))

    def _inputs(self, batch: Batch) -> tuple[list, list]:
        """S views [B, H, W, 3] and S mixed targets [B, C]."""
        if batch.shared and not self.independent:
            views = self.views(batch.image, batch.index, self.epoch, batch.cut)
            views, targets = self.mixing(views, tf.one_hot(batch.label, self.classes), self.step)
            return views, [targets] * self.splits
        if not self.independent:
            raise UserError("a batch with an order per branch has nothing to agree on: give training='independent'")
        views, targets = [], []
        for s in range(self.splits):
            own = batch.of(s)
            view = self.views.view(own.image, own.index, self.epoch, s, own.cut)
            (view,), target = self.mixing([view], tf.one_hot(own.label, self.classes), self.step, branch=s)
            views.append(view)
            targets.append(target)
        return views, targets

    def _learn(self, *inputs):
        """Views and goals of one piece -> its logits [B, S, C] and gradients over the global batch."""
        views, goals = inputs[: self.splits], inputs[self.splits :]
        replicas = tf.distribute.get_replica_context().num_replicas_in_sync
        with tf.GradientTape() as tape:
            logits = tf.stack([self._answer(b, v) for b, v in zip(self.branches, views, strict=True)], axis=1)
            _, _, total = self._terms(logits, goals)
            size = tf.cast(tf.size(total), tf.float32)
            objective = tf.reduce_sum(total) / (size * self.accumulation * replicas)
            objective = self.optimizer.scale_loss(objective)
        return logits, tape.gradient(objective, self.branch_variables)

    def _answer(self, branch: keras.Model, view):
        """What is learned from: logits [B, C]."""
        return branch(view, training=True)

    def _goal(self, targets):
        """What is learned: of mixed images, the shares of their classes, or that these are there."""
        return present(targets) if self.target == "binary" else smooth(targets, self.label_smoothing)

    def _terms(self, logits, goals):
        """Cross-entropies [B, S], agreement [B], and their sum [B]."""
        loss = TARGETS[self.target].loss
        losses = tf.stack([loss(logits[:, s], goal) for s, goal in enumerate(goals)], axis=1)
        agreement = self.agreement(logits)
        total = tf.reduce_sum(self._weighed(losses, logits), axis=1) + self.agreement.weight(self.epoch) * agreement
        return losses, agreement, total

    def _weighed(self, losses, logits):
        return losses * doubt(logits) if self.cascade_aware else losses

    def _decayed(self, gradients: list) -> list:
        """Clipped per branch, then with the branch's L2."""
        scale = self.optimizer.scale_loss(1.0)  # of mixed_float16; 1 otherwise
        if self.clip_norm:
            gradients = grads.across_replicas(gradients)
            gradients = self._clipped(gradients, self.clip_norm * scale)
        if not self.weight_decay:
            return gradients
        decay = self.weight_decay * scale / tf.distribute.get_replica_context().num_replicas_in_sync
        variables = self.branch_variables
        return grads.with_decay(gradients, variables, decay, [grads.decays(v) for v in variables])

    def _clipped(self, gradients: list, limit) -> list:
        """Every branch's gradients to the limit; they stand over R here, and so does the limit."""
        replicas = tf.distribute.get_replica_context().num_replicas_in_sync
        clipped, size = [], len(self.learners[0].trainable_variables)
        for first in range(0, len(gradients), size):
            clipped += grads.clipped(gradients[first : first + size], limit / replicas)
        return clipped

    def _score(self, logits, targets, goals, shared: bool) -> None:
        losses, agreement, total = self._terms(logits, goals)
        self.scores.update(logits, targets, losses, agreement, total, shared)


def _global_size(batch: Batch):
    replicas = tf.distribute.get_replica_context().num_replicas_in_sync
    return tf.shape(batch.label, tf.int64)[0] * replicas
