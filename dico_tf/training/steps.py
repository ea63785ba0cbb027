"""Training steps, evaluation and prediction under a distribution strategy."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from dico_tf.data.pipeline import evaluation_batches
from dico_tf.data.source import Split
from dico_tf.training.strategy import Devices


def train_function(devices: Devices, model) -> Callable:
    """Return a function (batch, stop) that trains one step on all replicas and returns a report, float32 [S + 2].

    The report is [running label loss of each branch, running score of the ensemble, stop], each a mean over the
    replicas. `stop` is a float, above 0 if this machine is to stop; in the report it is above 0 if it was on any.
    """
    names = [f"branch_{s}_loss" for s in range(model.splits)]

    def on_replica(batch, stop):
        results = model.train_step(batch)
        return tf.stack([*(results[name] for name in names), results[model.scores.best_by], stop])

    @tf.function(autograph=False)
    def step(batch, stop, frozen):  # `frozen` is True or False in Python: the step is traced once for each
        reports = devices.strategy.run(on_replica, (batch, stop))
        return devices.strategy.reduce(tf.distribute.ReduceOp.MEAN, reports, axis=None)

    return lambda batch, stop: step(batch, stop, model.backbones.frozen)


def _batch_size(split: Split, images: int) -> int:
    """Return the size of a batch: `images`, or for videos the number of clips with that many frames, at least 1."""
    return max(1, images // split.videos.count) if split.videos else images


class Evaluator:
    """Callable (split) -> the model's metrics on it, as `DiCo.results` returns them; its graph is traced once.

    The model's running metrics are reset before and after. Every replica scores every batch, which does not change the
    means. Divided batches would be uneven, and a replica with an empty part would fail.
    """

    def __init__(self, devices: Devices, model, batch_size: int):
        self._model, self._batch_size = model, batch_size

        @tf.function(autograph=False)
        def step(batch):
            devices.strategy.run(lambda part: model.test_step(part) and None, (batch,))

        self._step = step

    def __call__(self, split: Split) -> dict[str, object]:
        self._model.reset_metrics()
        for batch in evaluation_batches(split, _batch_size(split, self._batch_size)):
            self._step(batch)
        scores = self._model.results()
        self._model.reset_metrics()
        return scores


def predict(model, split: Split, batch_size: int, bar=None, views: tuple[int, int] = (1, 1)) -> np.ndarray:
    """Return the logits of all branches for a split's images, float32 [N, S, C].

    Args:
        batch_size: number of images at once; each frame of a clip counts as one.
        bar: progress bar with `advance`, such as `progress.Bar`.
        views: (clips of a video, crops of a clip), over whose logits the mean is taken; no effect on images.
    """
    forward = tf.function(lambda images: model(images, training=False), reduce_retracing=True, autograph=False)
    parts = split.views(*views) if split.videos else [split]
    total = 0.0
    for part in parts:
        batches = []
        for batch in evaluation_batches(part, _batch_size(part, batch_size)):
            batches.append(forward(batch["image"]).numpy())
            if bar:
                bar.advance(len(batches[-1]) / len(parts), {})
        logits = np.concatenate(batches)
        if len(parts) == 1:
            return logits
        total = total + logits.astype(np.float64)
    return (total / len(parts)).astype(np.float32)
