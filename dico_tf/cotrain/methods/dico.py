"""Co-train branches with an agreement loss (Divide and Co-training, arXiv 2011.14660)."""

from typing import NamedTuple

import keras
import tensorflow as tf

from dico_tf.config import Settings
from dico_tf.cotrain.batch import Batch
from dico_tf.cotrain.losses import Agreement, LabelLoss
from dico_tf.cotrain.tasks.task import Task, Truth


class Terms(NamedTuple):
    """Losses of each image: `losses` [B, S] on the labels, `agreement` [B] without its weight, and `total` [B].

    `total` is what is trained: the sum of the branches' training losses (see `Dico.own`) and the weighted agreement.
    """

    losses: tf.Tensor
    agreement: tf.Tensor
    total: tf.Tensor


class Dico:
    """Method `dico`, and base class of the other methods: total = sum_s own_s + weight(epoch) * agreement.

    Another method overrides `own`, the loss of one branch, and what else it needs.
    """

    def __init__(self, settings: Settings, labels: LabelLoss):
        self.settings, self.labels = settings, labels
        kind = "none" if settings.training == "independent" else settings.agreement
        self.agreement = Agreement(kind, settings.agreement_weight, settings.agreement_warmup_epochs)

    @property
    def copies(self) -> int:
        """Number of copies of each view in one pass of a branch."""
        return 1

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """Running metrics of this method."""
        return []

    def check(self, branches: list[keras.Model]) -> None:
        """Raise UserError if this method cannot train the branches."""

    def teach(self, views: list, batch: Batch) -> list:
        """Return, for each of `views`, additional targets [B, ..., C]; () for each if the method has none.

        Mixup and CutMix mix these targets like the labels.
        """
        return [()] * len(views)

    def own(self, task: Task, logits, goal, truth: Truth, branch: int):
        """Return two losses of a branch, each [B, ...]: on the labels, which is reported, and the one it trains on.

        Args:
            logits: [B, n, ..., C], of n copies of each view.
            goal: [B, ..., C], the labels after `LabelLoss.goal`.
            truth: labels and additional targets of the batch, as `Task.inputs` returned them.
            branch: number of the branch.
        """
        loss = self.labels.loss(logits[:, 0], goal)
        return loss, loss

    def answers(self, logits):
        """Return the mean of the logits over the n copies of a view: [B, S, n, ..., C] -> [B, S, ..., C]."""
        if logits.shape[2] == 1:
            return logits[:, :, 0]
        return tf.reduce_mean(tf.cast(logits, tf.float32), axis=2)

    def terms(self, task: Task, logits, truth: Truth, epoch) -> Terms:
        """Return the losses of each image.

        Args:
            logits: [B, S, n, ..., C] of n copies of each view, already resized to the size of the labels.
        """
        goals = [self.labels.goal(target) for target in task.targets(truth)]
        parts = [self.own(task, logits[:, s], goal, truth, s) for s, goal in enumerate(goals)]
        losses = tf.stack([task.mean(label, truth) for label, _ in parts], axis=1)
        agreement = task.mean(self.agreement(self.answers(logits)), truth)
        own = tf.add_n([task.mean(total, truth) for _, total in parts])
        return Terms(losses, agreement, own + self.agreement.weight(epoch) * agreement)

    def observe(self, task: Task, logits, truth: Truth) -> None:
        """Update `metrics` with a training step's logits [B, S, n, ..., C], of n copies of each view."""

    def results(self) -> dict[str, float]:
        """Return the values of `metrics` by their keys in metrics.jsonl, without metrics that were not updated yet."""
        return {metric.name: float(metric.result()) for metric in self.metrics if float(metric.count) > 0}
