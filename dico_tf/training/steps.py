"""One pass over images under a strategy: the same train_step and test_step that Keras' fit calls."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from dico_tf.data.pipeline import evaluation_batches
from dico_tf.data.source import Split
from dico_tf.training.strategy import Devices


def train_function(devices: Devices, model) -> Callable:
    """(batch, stop) -> every replica's and machine's mean of [branch losses..., the ensemble's score, stop]."""
    names = [f"branch_{s}_loss" for s in range(model.splits)]

    def on_replica(batch, stop):
        results = model.train_step(batch)
        return tf.stack([*(results[name] for name in names), results[model.scores.judged], stop])

    @tf.function(autograph=False)
    def step(batch, stop):
        watched = devices.strategy.run(on_replica, (batch, stop))
        return devices.strategy.reduce(tf.distribute.ReduceOp.MEAN, watched, axis=None)

    return step


def _at_once(split: Split, images: int) -> int:
    """Items of a batch: each frame of a clip counts as an image."""
    return max(1, images // split.videos.count) if split.videos else images


class Evaluator:
    """The model's scores on a split; keeps one traced function.

    Every replica scores every batch, which leaves the means as they are: shares would not come out even, and a
    replica with an empty share fails in convolution.
    """

    def __init__(self, devices: Devices, model, batch_size: int):
        self._model, self._batch_size = model, batch_size

        @tf.function(autograph=False)
        def step(batch):
            devices.strategy.run(lambda part: model.test_step(part) and None, (batch,))

        self._step = step

    def __call__(self, split: Split) -> dict[str, object]:
        self._model.reset_metrics()
        for batch in evaluation_batches(split, _at_once(split, self._batch_size)):
            self._step(batch)
        found = self._model.results()
        self._model.reset_metrics()
        return found


def predict(model, split: Split, batch_size: int, bar=None, views: tuple[int, int] = (1, 1)) -> np.ndarray:
    """logits float32 [N, S, C]; of films the mean over the views, (clips of each, crops of each clip)."""
    forward = tf.function(lambda images: model(images, training=False), reduce_retracing=True, autograph=False)
    seen = split.views(*views) if split.videos else [split]
    total = 0.0
    for part in seen:
        found = []
        for batch in evaluation_batches(part, _at_once(part, batch_size)):
            found.append(forward(batch["image"]).numpy())
            if bar:
                bar.advance(len(found[-1]) / len(seen), {})
        logits = np.concatenate(found)
        if len(seen) == 1:
            return logits
        total = total + logits.astype(np.float64)
    return (total / len(seen)).astype(np.float32)
