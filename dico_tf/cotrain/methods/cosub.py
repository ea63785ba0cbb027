"""Submodels of one network, or of each branch, that teach each other (cosub, arXiv 2212.04884)."""

import keras
import tensorflow as tf

from dico_tf.config import Settings
from dico_tf.cotrain.losses import LabelLoss, mutual
from dico_tf.cotrain.methods.dico import Dico
from dico_tf.cotrain.tasks.task import Task, Truth
from dico_tf.errors import UserError
from dico_tf.layers.drops import DropPath
from dico_tf.layers.stochastic_depth import Taken

DROPPING = (Taken, DropPath)  # layers that leave residual branches out, for every row by itself


class Cosub(Dico):
    """Methods `cosub` and `dico+cosub`: every view passes n times, each time without other residual branches.

    Row i of copy s is submodel s of image i: it learns the label and what the other submodels answer. The branches
    agree on the mean of their submodels' logits, which is also what training metrics score. Evaluation, prediction
    and export use the whole networks.
    """

    def __init__(self, settings: Settings, labels: LabelLoss):
        super().__init__(settings, labels)
        self.apart = keras.metrics.Mean(name="submodels_apart")

    @property
    def copies(self) -> int:
        return self.settings.submodels

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return [self.apart]

    def check(self, branches: list[keras.Model]) -> None:
        for branch in branches:
            if not any(isinstance(layer, DROPPING) and layer.rate > 0 for layer in branch.layers):
                raise UserError(
                    f"{branch.name} drops no residual branch, so that its submodels would all be the same: give "
                    "drop_path above 0 (--drop_path), or a model that has it"
                )

    def own(self, task: Task, logits, goal, truth: Truth, branch: int):
        label, _, total = mutual(logits, goal, self.settings.label_weight, self.labels)
        return tf.reduce_mean(label, axis=1), total

    def observe(self, task: Task, logits, truth: Truth) -> None:
        """Record the mean of |p_s - p_t| over classes and neighbouring submodels; two are each other's neighbours."""
        for s in range(logits.shape[1]):
            answers = self.labels.kind.answer(tf.cast(logits[:, s], tf.float32))
            distance = tf.reduce_mean(tf.abs(answers - tf.roll(answers, 1, axis=1)), axis=(1, -1))
            self.apart.update_state(task.mean(distance, truth), task.units(truth))
