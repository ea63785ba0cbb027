"""The Keras model of co-training: S branches, a task that they learn, and a method of learning."""

import dataclasses
import importlib
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from dico_tf.config import METHODS, TASKS, Settings, without_removed
from dico_tf.cotrain import gradients as grads
from dico_tf.cotrain.backbones import Backbones
from dico_tf.cotrain.batch import Batch
from dico_tf.cotrain.losses import LabelLoss, class_weights
from dico_tf.cotrain.methods.dico import Dico
from dico_tf.cotrain.sliding_inference import Windowed, as_large
from dico_tf.cotrain.tasks.task import Task
from dico_tf.errors import UserError
from dico_tf.layers import keras_internals, stochastic_depth
from dico_tf.layers.drop_path import DropPath
from dico_tf.layers.image_input import Normalisation
from dico_tf.models.presets import find


class Epochs(keras.callbacks.Callback):
    """Callback that tells the model which epoch begins."""

    def on_epoch_begin(self, epoch, logs=None):
        self.model.begin_epoch(epoch)


def _class(package: str, path: str) -> type:
    """Import a class named in `config.TASKS` or `config.METHODS`, e.g. ("methods", "cosub.Cosub")."""
    module, name = path.split(".")
    return getattr(importlib.import_module(f"dico_tf.cotrain.{package}.{module}"), name)


@keras.saving.register_keras_serializable("dico_tf")
class DiCo(keras.Model):
    """S branches, of a divided network or of any kind, co-trained on their own views of the same images.

    `call` and `predict` return logits [B, S, C] from images [B, H, W, 3] or clips [B, T, H, W, 3] of 0..255. A
    segmentation network returns [B, S, h, w, C] at its output stride.

    In Python, `teacher` is a callable: images [B, H, W, 3] of 0..255 -> logits [B, C]; paths are for train.py. `views`
    is one policy, or a sequence with one for each branch. Other keyword arguments, such as `dtype`, are those of
    `keras.Model`.
    """

    def __init__(self, model: str | dict[str, Any], splits: int = 1, **arguments: Any):
        names = {field.name for field in dataclasses.fields(Settings)}
        settings = {name: arguments.pop(name) for name in names & arguments.keys()}
        super().__init__(**arguments)
        if isinstance(settings.get("views"), str):
            settings["views"] = (settings["views"],)
        settings = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
        teacher = settings.pop("teacher") if callable(settings.get("teacher")) else None
        network = find(model)
        if network.normalisation:
            settings = {**dataclasses.asdict(network.normalisation), **settings}
        self.settings = Settings(model=network.reference, splits=splits, **settings)
        self.settings.check(network.task)
        self.splits, self.classes, self.average = splits, self.settings.classes, self.settings.average
        self.target = self.settings.target_for(network.task)
        network = network.with_drop_path(self.settings.drop_path)
        if self.settings.frames:
            network = network.with_frames(
                self.settings.frames
            )  # before the division: multiply-adds depend on the frames
        self.task: Task = _class("tasks", TASKS[network.task])(self.settings, network)
        labels = LabelLoss(self.target, self.settings.label_smoothing, class_weights(self.settings.class_weights))
        self.method: Dico = _class("methods", METHODS[self.settings.method])(self.settings, labels)
        if teacher:
            self.learn_from(lambda images, index: teacher(images))
        self._evaluation = Dico(self.settings, LabelLoss(self.target))
        self._build_branches(network)
        self.backbones = Backbones(self.learners, network.is_head, self.settings)
        self.method.check(self.branches)
        self.epoch, self.step, self.seen = (self._counter(name) for name in ("epoch", "step", "seen"))
        self.scores = self.task.make_scores()
        self.built = True

    def _build_branches(self, network: Any) -> None:
        settings, before = self.settings, keras.config.dtype_policy()
        listed = network.branches(settings.splits, settings.division, settings.image_size, settings.classes)
        normalisation = Normalisation(mean=settings.mean, std=settings.std)
        keras.config.set_dtype_policy(self.dtype_policy)
        try:
            built = [self.task.build(branch, normalisation) for branch in listed]
        finally:
            keras.config.set_dtype_policy(before)
        # Empty lists if a branch is a single network. The attributes' names are part of the layout of saved files.
        self._coarse = [branch.coarse for branch in built if branch.coarse]
        self._learners = [branch.learner for branch in built if branch.learner]
        self.branches = [branch.network for branch in built]
        for s, branch in enumerate(self.branches):
            branch.name = f"branch_{s}"
            grads.exclude_gammas(branch)
        for learner in self.learners:
            stochastic_depth.set_form(learner, settings.drop_form)
            for layer in learner.layers:
                if isinstance(layer, keras.layers.BatchNormalization):
                    layer.synchronized = settings.sync_batch_norm
        if settings.drop_form == "efficient" and not any(map(stochastic_depth.droppings, self.branches)):
            masked = any(isinstance(layer, DropPath) for branch in self.branches for layer in branch.layers)
            reason = "can only mask residual branches" if masked else "has no residual branches that are dropped"
            raise UserError(
                f"drop_form='efficient': {network.name} {reason}; give 'auto' (--drop_form=auto), or another model"
            )

    def learn_from(self, teacher: Callable) -> None:
        """Set the teacher of method distill: a callable (images, index) -> logits.

        It gets images [B, H, W, 3] of 0..255 (or clips) and their numbers in the data set, int64 [B]; a teacher given
        to the constructor gets the images only. Its logits are [B, C], or [B, h, w, C] in segmentation, of the same
        classes as the branches.
        """
        if self.settings.method != "distill":
            raise UserError(
                f"method={self.settings.method!r} does not use a teacher: give method='distill', or no teacher"
            )
        self.method.teacher = teacher

    @property
    def learners(self) -> Sequence[keras.Model]:
        """The networks that are trained, one for each branch, with the weights of the branch.

        In segmentation they return logits at the output stride, or a list of these and the auxiliary head's logits if
        `auxiliary_weight` is above 0. Otherwise they are `branches` themselves.
        """
        return self._learners or self.branches

    @property
    def predictors(self) -> list[Callable]:
        """One callable (images, training=False) -> logits for each branch.

        Logits are [B, C]. In segmentation they are [B, H, W, C], from images [B, H, W, 3] of any size.
        """
        both = zip(self.branches, self._coarse or self.branches, strict=True)
        return [as_large(coarse) if isinstance(coarse, Windowed) else branch for branch, coarse in both]

    @property
    def views(self) -> Any:
        """Callable (images, index, epoch, cut) -> S views; see `ViewMaker`."""
        return self.task.views

    def _counter(self, name: str):
        return self.add_weight(
            shape=(), dtype="int64", initializer="zeros", trainable=False, name=name, aggregation="only_first_replica"
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **dataclasses.asdict(self.settings)}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls(**without_removed(config, f"the saved {cls.__name__}"))

    @property
    def metrics(self):
        return [*self.scores.metrics, *self.method.metrics]

    def results(self, shared: bool = True) -> dict[str, object]:
        """Return the running metrics by their keys in metrics.jsonl.

        Args:
            shared: True if all branches saw the same images; False gives None for the scores of the ensemble.
        """
        return {**self.scores.results(shared), **self.method.results()}

    @property
    def branch_variables(self) -> list[keras.Variable]:
        """Trainable variables, branch after branch, in the order of the optimizer."""
        return [v for learner in self.learners for v in learner.trainable_variables]

    def begin_epoch(self, epoch: int) -> None:
        """Set the epoch, from 0, and restart the numbering of images that come without numbers.

        With freeze=N, this freezes the backbones in the first N epochs, and lets them learn from epoch N on.
        """
        self.epoch.assign(epoch)
        self.seen.assign(0)
        if self.backbones.begin_epoch(epoch) and self.train_function:
            self.make_train_function(force=True)

    def compile(self, optimizer="sgd", **options):
        """Configure training as in Keras. A loss or metrics raise UserError: DiCo has its own."""
        unsupported = [n for n in ("loss", "metrics", "weighted_metrics", "loss_weights") if options.get(n)]
        if unsupported:
            raise UserError(f"DiCo has its own loss and metrics: leave out {', '.join(unsupported)}")
        super().compile(
            optimizer=optimizer, **{"jit_compile": False, **options}
        )  # views use shapes that XLA does not support
        if self.backbones.scale_steps:
            variables = self.branch_variables
            keras_internals.scale_steps(self.optimizer, lambda slot: self.backbones.factor(variables[slot]))

    def compile_from_config(self, config):
        """Compile a loaded model, so that training continues with the saved optimizer state."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.branch_variables)

    def fit(self, x=None, y=None, *, callbacks=None, **options):
        if y is not None and not isinstance(x, dict):
            x = {"image": x, "index": np.arange(len(x))}
        if isinstance(y, np.ndarray):
            self.task.check_labels(y)
        callbacks = [] if callbacks is None else callbacks
        if isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks.append(Epochs())
        else:
            callbacks = [*(callbacks if isinstance(callbacks, (list, tuple)) else [callbacks]), Epochs()]
        return super().fit(x, y, callbacks=callbacks, **options)

    def call(self, inputs, training=False):
        images = inputs["image"] if isinstance(inputs, dict) else inputs
        return keras.ops.stack([net(images, training=training) for net in self._coarse or self.branches], axis=1)

    def train_step(self, data):
        batch = self.numbered(self.task.unpack(data))
        views, truth = self.task.inputs(batch, self.epoch, self.step, self.method.teach)
        (logits, terms), gradients = grads.in_pieces(self.learn, (views, truth), self.settings.accumulation)
        self.optimizer.apply(self._decayed(gradients), self.branch_variables)
        resized = self.task.at_label_size(logits, truth)
        self.method.observe(self.task, resized, truth)
        self.task.update(self.scores, self.method.answers(resized), truth, terms, batch.shared)
        self._count(batch)
        return self.get_metrics_result()

    def test_step(self, data):
        """Return the metrics on unchanged images by name. "loss" is the label losses plus the weighted agreement.

        Label smoothing, class weights, auxiliary heads, submodels and the teacher are left out.
        """
        batch = self.task.unpack(data)
        truth = self.task.truth(batch)
        resized = self.task.at_label_size(self(batch.image, training=False), truth)
        terms = self._evaluation.terms(self.task, resized[:, :, None], truth, self.epoch)
        self.task.update(self.scores, resized, truth, terms, True)
        own = {metric.name for metric in self.method.metrics}
        return {name: value for name, value in self.get_metrics_result().items() if name not in own}

    def _count(self, batch: Batch) -> None:
        replicas = tf.distribute.get_replica_context().num_replicas_in_sync
        self.step.assign_add(1)
        self.seen.assign_add(tf.shape(batch.label, tf.int64)[0] * replicas)

    def numbered(self, batch: Batch) -> Batch:
        """Return the batch with image numbers; if it has none, they are the images' positions in the epoch."""
        if batch.index is not None:
            return batch
        size = tf.shape(batch.label, tf.int64)[0]
        replica = tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, tf.int64)
        return dataclasses.replace(batch, index=self.seen + replica * size + tf.range(size))

    def learn(self, part):
        """Return ((logits, terms), gradients) of one piece (views, truth) of a batch.

        Gradients are divided by the number of pieces and of replicas. Their sum over all pieces and replicas is the
        gradient of the mean loss over the global batch.
        """
        views, truth = part
        replicas = tf.distribute.get_replica_context().num_replicas_in_sync
        with tf.GradientTape() as tape:
            heads = [self.heads(learner, view) for learner, view in zip(self.learners, views, strict=True)]
            logits = tf.stack([first for first, *_ in heads], axis=1)
            terms = self.method.terms(self.task, self.task.at_label_size(logits, truth), truth, self.epoch)
            total = self._with_auxiliary_heads(terms.total, heads, truth)
            shares = self.task.shares(truth)
            size = tf.cast(tf.size(total), tf.float32)
            objective = tf.reduce_sum(total if shares is None else shares * total)
            objective = self.optimizer.scale_loss(objective / (size * self.settings.accumulation * replicas))
        return (logits, terms), tape.gradient(objective, self.branch_variables)

    def heads(self, learner: keras.Model, view) -> list:
        """Return the training logits [B, n, ..., C] of each head, the main one first, for n copies of a view."""
        copies = self.method.copies
        rows = tf.nest.flatten(learner(tf.concat([view] * copies, axis=0) if copies > 1 else view, training=True))
        return [self._by_image(head, copies) for head in rows]

    @staticmethod
    def _by_image(rows, copies: int):
        """Reshape [n B, ..., C], copy after copy, to [B, n, ..., C]."""
        if copies == 1:
            return rows[:, None]
        by_copy = tf.reshape(rows, (copies, -1, *rows.shape[1:]))
        return tf.transpose(by_copy, (1, 0, *range(2, by_copy.shape.rank)))

    def _with_auxiliary_heads(self, total, heads: list, truth):
        """Return total [B] plus `auxiliary_weight` times the label loss of each auxiliary head, if there are any.

        Args:
            heads: for each branch, the logits of its heads, the main one first; see `heads`.
        """
        targets = self.task.targets(truth)
        for (_, *seconds), target in zip(heads, targets, strict=True):
            for logits in seconds:
                resized, goal = self.task.at_label_size(logits, truth), self.method.labels.goal(target)
                loss = tf.reduce_mean(self.method.labels.loss(resized, goal[:, None]), axis=1)
                total += self.settings.auxiliary_weight * self.task.mean(loss, truth)
        return total

    def _decayed(self, gradients: list) -> list:
        """Return gradients that are clipped to the norm `clip_norm` (0: no clipping), with weight decay (L2) added.

        Each branch is clipped separately.
        """
        clip_norm, weight_decay = self.settings.clip_norm, self.settings.weight_decay
        scale = self.optimizer.scale_loss(1.0)  # 1 except for mixed_float16
        replicas = tf.distribute.get_replica_context().num_replicas_in_sync
        if clip_norm:
            gradients = self._clipped(grads.across_replicas(gradients), clip_norm * scale / replicas)
        if not weight_decay:
            return gradients
        variables = self.branch_variables
        decays = [grads.decays(v) for v in variables]
        return grads.with_decay(gradients, variables, weight_decay * scale / replicas, decays)

    def _clipped(self, gradients: list, limit) -> list:
        """Clip the gradients of each branch separately to the norm `limit`; a frozen backbone apart from its head."""
        branches = enumerate(learner.trainable_variables for learner in self.learners)
        groups = [(s, self.backbones.factor(v) > 0) for s, variables in branches for v in variables]
        return grads.clipped_apart(gradients, groups, limit)


def _signature() -> inspect.Signature:
    """Return the signature of DiCo with every setting as an argument, for `help` and editors."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    own = inspect.signature(DiCo.__init__).parameters
    options = [
        inspect.Parameter(field.name, keyword, default=field.default, annotation=field.type)
        for field in dataclasses.fields(Settings)
        if field.name not in own
    ]
    first = [own["model"], own["splits"]]
    return inspect.Signature([*first, *options, inspect.Parameter("arguments", inspect.Parameter.VAR_KEYWORD)])


DiCo.__signature__ = _signature()
DiCo.__doc__ += "\n    Args:\n" + "".join(
    f"        {field.name}: {field.metadata['help']}.\n" for field in dataclasses.fields(Settings)
)
