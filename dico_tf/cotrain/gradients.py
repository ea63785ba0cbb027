"""Gradients: accumulated over pieces of a batch, summed over replicas, clipped, and with weight decay."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from dico_tf.errors import UserError

DECAYED = ("kernel", "depthwise_kernel", "pointwise_kernel", "gamma")  # not biases and offsets


def decays(variable) -> bool:
    """Return whether weight decay applies: to kernels, and to gammas that are not excluded by `exclude_gammas`."""
    return variable.path.rsplit("/", 1)[-1] in DECAYED and getattr(variable, "decays", True)


def exclude_gammas(network: keras.Model) -> None:
    """Exclude from weight decay the gammas of all layers other than batch normalisation."""
    for layer in network.layers:
        if isinstance(layer, keras.Model):
            exclude_gammas(layer)
        gamma = getattr(layer, "gamma", None)
        if isinstance(gamma, keras.Variable) and not isinstance(layer, keras.layers.BatchNormalization):
            gamma.decays = False


def in_pieces(learn: Callable, batch: Any, pieces: int) -> tuple[Any, list[tf.Tensor]]:
    """Divide a batch into pieces, call learn(piece) -> (outputs, gradients) for each, and return both for the batch.

    Outputs are concatenated, gradients are added. Raises UserError if the pieces would not be equal.

    The loop is unrolled, since synchronised batch normalisation does not work in a loop of the graph. Each piece waits
    for the one before it; otherwise the memory of all would be needed at once.

    Args:
        batch: a structure of tensors whose first axis is the batch; outputs must be such a structure too.
    """
    size = _piece(tf.nest.flatten(batch)[0].shape[0], pieces)
    parts, sums = [], []
    for i in range(pieces):
        first = i * size
        part = batch if pieces == 1 else tf.nest.map_structure(lambda x, first=first: x[first : first + size], batch)
        with tf.control_dependencies(sums):
            outputs, gradients = learn(tf.nest.map_structure(tf.identity, part))
        sums = [a + g for a, g in zip(sums, gradients, strict=True)] if sums else gradients
        parts.append(outputs)
    return tf.nest.map_structure(lambda *each: tf.concat(each, axis=0), *parts), sums


def _piece(batch_size: int | None, pieces: int) -> int:
    if pieces > 1 and (batch_size is None or batch_size % pieces):
        raise UserError(
            f"a replica's batch of {batch_size or 'unknown size'} cannot be divided into {pieces} equal pieces, "
            "one per step of accumulation: give batches of a fixed size (drop_remainder=True) that is a multiple of "
            "accumulation times replicas"
        )
    return (batch_size or 0) // pieces


def across_replicas(gradients: list[tf.Tensor]) -> list[tf.Tensor]:
    """Return each gradient's mean over all replicas: the optimizer adds those of all replicas, which gives the sum."""
    context = tf.distribute.get_replica_context()
    count = context.num_replicas_in_sync
    if count == 1:
        return gradients
    return [g / count for g in context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)]


def clipped(gradients: list[tf.Tensor], limit) -> list[tf.Tensor]:
    """Return each gradient g times min(1, limit / norm), where the norm is that of all these gradients together."""
    return tf.clip_by_global_norm(gradients, limit)[0]


def clipped_apart(gradients: Sequence[tf.Tensor], groups: Sequence[Any], limit) -> list[tf.Tensor]:
    """Clip the gradients of each group separately, see `clipped`; `groups` has the group of each gradient."""
    result = list(gradients)
    for group in dict.fromkeys(groups):
        places = [place for place, own in enumerate(groups) if own == group]
        limited = clipped([gradients[place] for place in places], limit)
        for place, gradient in zip(places, limited, strict=True):
            result[place] = gradient
    return result


def with_decay(gradients: Sequence[tf.Tensor], variables: Sequence, decay, decayed: Sequence[bool]) -> list[tf.Tensor]:
    """Return g + decay w (coupled L2) for each gradient g and variable w whose entry in `decayed` is true, else g."""
    return [g + tf.cast(decay, g.dtype) * v if d else g for g, v, d in zip(gradients, variables, decayed, strict=True)]
