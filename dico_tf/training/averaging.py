"""Evaluate the moving average of the weights, with its own statistics of batch normalisation."""

import contextlib
from collections.abc import Iterable, Iterator

import keras
import numpy as np
import tensorflow as tf

from dico_tf.training import variables


def _norms(model) -> list[keras.layers.BatchNormalization]:
    """Return the batch normalisations whose statistics training changes."""
    layers = (layer for branch in model.branches for layer in branch.layers)
    norms = [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]
    return [norm for norm in norms if not model.backbones.keeps_statistics(norm)]


def recalibrate(model, batches: Iterable[dict[str, tf.Tensor]]) -> None:
    """Set the running mean and variance of batch normalisation to those of the batches, averaged over all batches.

    The images of a batch are its "image". Without batches nothing changes. Statistics that training keeps stay as they
    are.
    """
    norms = _norms(model)
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    statistics = [variable for norm in norms for variable in (norm.moving_mean, norm.moving_variance)]

    @tf.function
    def forward(images):
        model(images, training=True)

    for norm in norms:
        norm.momentum = 0.0  # then each pass sets the statistics to those of its batch
    try:
        sums, count = [np.zeros(v.shape, np.float64) for v in statistics], 0
        for batch in batches:
            forward(batch["image"])
            sums = [total + v.numpy() for total, v in zip(sums, statistics, strict=True)]
            count += 1
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    if count:
        for variable, total in zip(statistics, sums, strict=True):
            variable.assign((total / count).astype(np.float32))


@contextlib.contextmanager
def averaged(model, batches: Iterable[dict[str, tf.Tensor]]) -> Iterator[None]:
    """Context manager: inside the block the model has its averaged weights, afterwards its own again.

    The batches serve to recompute the statistics of batch normalisation for the averaged weights.
    """
    named = variables.weights(model)
    before = variables.values(named)
    try:
        for name, average in variables.averages(model).items():
            named[name].assign(average.numpy())
        recalibrate(model, batches)
        yield
    finally:
        for name, variable in named.items():
            variable.assign(before[name])
