"""From gradients of a piece of the batch to what the optimizer applies."""

from collections.abc import Callable, Sequence

import tensorflow as tf

DECAYED = ("kernel", "gamma")  # biases and BN offsets are left alone


def decays(variable) -> bool:
    return variable.path.rsplit("/", 1)[-1] in DECAYED


def in_pieces(learn: Callable, batches: Sequence[tf.Tensor], pieces: int, variables: Sequence):
    """learn(*batches) -> (logits, gradients) on one piece after another: logits joined, gradients added."""
    if pieces == 1:
        return learn(*batches)
    size = batches[0].shape[0] // pieces

    def step(i, logits, sums):
        part = [batch[i * size : (i + 1) * size] for batch in batches]
        part_logits, gradients = learn(*part)
        return i + 1, logits.write(i, part_logits), [a + g for a, g in zip(sums, gradients, strict=True)]

    start = (0, tf.TensorArray(tf.float32, pieces), [tf.zeros(v.shape, tf.float32) for v in variables])
    _, logits, gradients = tf.while_loop(lambda i, *_: i < pieces, step, start, parallel_iterations=1)
    return logits.concat(), gradients


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
    return [
        g + tf.cast(decay, g.dtype) * v if m else g for g, v, m in zip(gradients, variables, masked, strict=True)
    ]
