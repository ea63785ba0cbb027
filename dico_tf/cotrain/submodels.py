"""Submodels of one network, or of each branch, that teach one another (Touvron et al. 2023, cosub)."""

from typing import Any

import keras
import tensorflow as tf

from dico_tf.cotrain.dico import DiCo
from dico_tf.cotrain.losses import TARGETS, mutual
from dico_tf.cotrain.scores import Scores
from dico_tf.errors import UserError
from dico_tf.layers.drops import DropPath
from dico_tf.layers.stochastic_depth import Taken

THINNED = (Taken, DropPath)  # layers that leave residual branches out, for every row by itself


@keras.saving.register_keras_serializable("dico_tf")
class Submodels(DiCo):
    """A DiCo whose branches see every view several times in a batch, each time without other residual branches.

    Row i of copy s is submodel s of image i: it learns the label and what the others answer. The branches agree on
    the mean of their submodels' logits, which is also what the running scores of training judge. Whoever answers,
    evaluates or exports has the whole networks, as of any DiCo.
    """

    def __init__(
        self,
        model: str | dict[str, Any],
        splits: int = 1,
        *,
        submodels: int = 2,
        label_weight: float = 0.5,
        target: str = "binary",
        **settings,
    ):
        if submodels < 2:
            raise UserError(f"submodels={submodels} have no other to learn from: give at least 2, or train a DiCo")
        if not 0 <= label_weight <= 1:
            raise UserError(f"label_weight={label_weight} must be at least 0 and at most 1")
        self.submodels, self.label_weight = submodels, label_weight
        super().__init__(model, splits, target=target, **settings)
        for branch in self.branches:
            if not thinned(branch):
                raise UserError(
                    f"{branch.name} of {self._settings['model']} drops no residual branch, so that its submodels would "
                    "all be the same: give drop_path above 0 (--drop_path), or a model that has it"
                )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "submodels": self.submodels, "label_weight": self.label_weight}

    def _make_scores(self) -> "SubmodelScores":
        return SubmodelScores(self.splits, self.average)

    def test_step(self, data):
        """Of whole networks, which are compared with no other."""
        found = super().test_step(data)
        return {name: value for name, value in found.items() if name != self.scores.apart.name}

    def _answer(self, branch: keras.Model, view):
        """One pass of all copies, copy after copy -> [B, n, C]."""
        rows = branch(tf.concat([view] * self.submodels, axis=0), training=True)
        return tf.transpose(tf.reshape(rows, (self.submodels, -1, self.classes)), (1, 0, 2))

    def _terms(self, logits, goals):
        """Of logits [B, S, n, C]: label terms [B, S], the branches' agreement [B], and the sum of all [B].

        Of the whole networks' logits [B, S, C], as of any DiCo.
        """
        if logits.shape.rank == 3:
            return super()._terms(logits, goals)
        terms = [mutual(logits[:, s], goal, self.label_weight, self.target) for s, goal in enumerate(goals)]
        losses = tf.stack([tf.reduce_mean(label, axis=1) for label, _, _ in terms], axis=1)
        together = tf.reduce_mean(tf.cast(logits, tf.float32), axis=2)
        totals = self._weighed(tf.stack([total for _, _, total in terms], axis=1), together)
        agreement = self.agreement(together)
        return losses, agreement, tf.reduce_sum(totals, axis=1) + self.agreement.weight(self.epoch) * agreement

    def _score(self, logits, targets, goals, shared: bool) -> None:
        terms = self._terms(logits, goals)
        if logits.shape.rank == 4:
            self.scores.compare(TARGETS[self.target].answer(tf.cast(logits, tf.float32)))
            logits = tf.reduce_mean(tf.cast(logits, tf.float32), axis=2)
        self.scores.update(logits, targets, *terms, shared)


def thinned(branch: keras.Model) -> bool:
    return any(isinstance(layer, THINNED) and layer.rate > 0 for layer in branch.layers)


class SubmodelScores(Scores):
    """And, while training, how far apart the submodels' answers are: the mean of |p_s - p_t| over classes and pairs."""

    def __init__(self, splits: int, average: str):
        super().__init__(splits, average)
        self.apart = keras.metrics.Mean(name="submodels_apart")

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return [*super().metrics, self.apart]

    def compare(self, answers) -> None:
        """answers [B, S, n, C]; neighbours in a ring, which of two is every pair."""
        self.apart.update_state(tf.reduce_mean(tf.abs(answers - tf.roll(answers, 1, axis=2)), axis=(1, 2, 3)))

    def results(self, shared: bool = True) -> dict[str, object]:
        compared = float(self.apart.count) > 0
        return {**super().results(shared), **({"submodels_apart": float(self.apart.result())} if compared else {})}
