"""From gradients of a piece of the batch to what the optimizer applies."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from dico_tf.errors import UserError

DECAYED = ("kernel", "depthwise_kernel", "pointwise_kernel", "gamma")  # biases and BN offsets are left alone


def decays(variable) -> bool:
    """Kernels, and gammas where no layer or `spare_scales` marked them; positions and class tokens have other names."""
    return variable.path.rsplit("/", 1)[-1] in DECAYED and getattr(variable, "decays", True)


def spare_scales(network: keras.Model) -> None:
    """Marks the gammas that never decay: those of layer normalisation and of a residual branch's own scale."""
    for layer in network.layers:
        if isinstance(layer, keras.Model):
            spare_scales(layer)
        gamma = getattr(layer, "gamma", None)
        if isinstance(gamma, keras.Variable) and not isinstance(layer, keras.layers.BatchNormalization):
            gamma.decays = False


def in_pieces(learn: Callable, batch: Any, pieces: int) -> tuple[Any, list[tf.Tensor]]:
    """Call learn(part) -> (outputs, gradients) on one part of the batch after another; join outputs, add gradients.

    Unrolled, since synchronised batch normalisation cannot stand inside a loop of the graph. Each part waits for
    the one before it, or the memory of all would be held at once.

    Args:
        batch: any structure of tensors with the batch as first axis; so are the outputs.
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
            f"a replica's batch of {batch_size or 'unknown size'} does not pass in {pieces} equal pieces: "
            "give batches of a fixed size (drop_remainder=True) that accumulation divides"
        )
    return (batch_size or 0) // pieces


def across_replicas(gradients: list[tf.Tensor]) -> list[tf.Tensor]:
    """The global batch's gradient on every replica, over R, so that the optimizer's sum over replicas restores it."""
    context = tf.distribute.get_replica_context()
    count = context.num_replicas_in_sync
    if count == 1:
        return gradients
    return [g / count for g in context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)]


def clipped(gradients: list[tf.Tensor], limit) -> list[tf.Tensor]:
    """g * min(1, limit / |g|) over all gradients of one branch."""
    return tf.clip_by_global_norm(gradients, limit)[0]


def with_decay(gradients: Sequence[tf.Tensor], variables: Sequence, decay, masked: Sequence[bool]) -> list[tf.Tensor]:
    """Coupled L2: g + decay * w, before any momentum."""
    return [g + tf.cast(decay, g.dtype) * v if m else g for g, v, m in zip(gradients, variables, masked, strict=True)]
