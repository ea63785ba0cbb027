"""Co-train submodels: networks with dropped residual branches that teach each other (cosub, arXiv 2212.04884)."""

import keras
import tensorflow as tf

from dico_tf.config import Settings
from dico_tf.cotrain.losses import LabelLoss, mutual
from dico_tf.cotrain.methods.dico import Dico
from dico_tf.cotrain.tasks.task import Task, Truth
from dico_tf.errors import UserError
from dico_tf.layers.drop_path import DropPath
from dico_tf.layers.stochastic_depth import Taken

DROPPING = (Taken, DropPath)  # layers that drop residual branches, separately for each row of a batch


class Cosub(Dico):
    """Methods `cosub` and `dico+cosub`: n copies of each view, for which different residual branches are dropped.

    Copy s of image i passes through submodel s, which learns the label and the answers of the other submodels. The
    agreement loss and the training metrics use the mean logits of a branch's submodels. Evaluation, prediction and
    export use the full branches.
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
                    f"{branch.name} drops no residual branches, so that all its submodels would be the same: give "
                    "drop_path (--drop_path) above 0, or a model that has residual branches to drop"
                )

    def own(self, task: Task, logits, goal, truth: Truth, branch: int):
        label, _, total = mutual(logits, goal, self.settings.label_weight, self.labels)
        return tf.reduce_mean(label, axis=1), total

    def observe(self, task: Task, logits, truth: Truth) -> None:
        """Update `submodels_apart`: the mean of |p_s - p_t| over classes and submodels s.

        p are the probabilities. t is the submodel after s; after the last one comes the first.
        """
        for s in range(logits.shape[1]):
            answers = self.labels.kind.answer(tf.cast(logits[:, s], tf.float32))
            distance = tf.reduce_mean(tf.abs(answers - tf.roll(answers, 1, axis=1)), axis=(1, -1))
            self.apart.update_state(task.mean(distance, truth), task.units(truth))
