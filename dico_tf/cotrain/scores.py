"""Running metrics of an epoch: losses, agreement, and accuracy of each branch and of the ensemble."""

import keras
from keras import ops

from dico_tf.cotrain.losses import combine

COMPARED = ("logits", "probs", "max")  # averages scored while training; one more would refuse older checkpoints


def accuracy(scores, targets):
    """Return the target of the class with the highest score: scores, targets [B, C] -> [B].

    It is 1 or 0 for one-hot targets, and a share for those of mixed images.
    """
    top = ops.one_hot(ops.argmax(scores, axis=-1), targets.shape[-1], dtype="float32")
    return ops.sum(top * targets, axis=-1)


class Scores:
    """Running metrics of classification. The ensemble is scored only if all branches see the same images."""

    best_by = "ensemble_accuracy"  # the score that chooses the best epoch

    def __init__(self, splits: int, average: str):
        self.average = average
        self.loss = keras.metrics.Mean(name="loss")
        self.agreement = keras.metrics.Mean(name="agreement")
        self.branch_loss = [keras.metrics.Mean(name=f"branch_{s}_loss") for s in range(splits)]
        self.branch_accuracy = [keras.metrics.Mean(name=f"branch_{s}_accuracy") for s in range(splits)]
        self.ensemble = {a: keras.metrics.Mean(name=f"ensemble_{a}_accuracy") for a in COMPARED}
        self.chosen = keras.metrics.Mean(name="ensemble_accuracy")

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        branches = [*self.branch_loss, *self.branch_accuracy]
        return [self.loss, self.agreement, *branches, *self.ensemble.values(), self.chosen]

    def update(self, logits, targets, losses, agreement, total, shared: bool = True) -> None:
        """Add a batch: logits [B, S, C], S targets [B, C], losses [B, S], agreement and total [B].

        Args:
            shared: True if all branches saw the same images; False leaves out the ensemble.
        """
        self.loss.update_state(total)
        self.agreement.update_state(agreement)
        for s, target in enumerate(targets):
            self.branch_loss[s].update_state(losses[:, s])
            self.branch_accuracy[s].update_state(accuracy(logits[:, s], target))
        if shared:
            values = {
                average: accuracy(combine(logits, average), targets[0])
                for average in dict.fromkeys((*COMPARED, self.average))
            }
            for average, metric in self.ensemble.items():
                metric.update_state(values[average])
            self.chosen.update_state(values[self.average])

    def results(self, shared: bool = True) -> dict[str, object]:
        """Return the running means by their keys in metrics.jsonl; without `shared`, None for those of the ensemble."""
        values = {metric.name: float(metric.result()) for metric in self.metrics}
        return {
            "loss": values["loss"],
            "agreement": values["agreement"],
            "branch_accuracy": [values[f"branch_{s}_accuracy"] for s in range(len(self.branch_accuracy))],
            "ensemble_accuracy": values["ensemble_accuracy"] if shared else None,
            "ensemble": {a: values[f"ensemble_{a}_accuracy"] for a in self.ensemble} if shared else None,
        }
