"""Batches for TensorFlow: one element per replica and step; the images stay outside the graph."""

import numpy as np
import tensorflow as tf

from dico_tf.data.source import Split

_AT_WORK = 2  # elements made at a time; one of picture files keeps all cores busy by itself
_AHEAD = 4  # elements kept ready


def training_batches(split: Split, indices: np.ndarray) -> tf.data.Dataset:
    """{image, label, index} for indices [steps, replicas, b(, S)]: the replicas of a step follow one another."""
    rows = np.asarray(indices, np.int64).reshape(-1, *indices.shape[2:])  # [steps * replicas, b(, S)]
    return _dataset(split, len(rows), lambda n: rows[n], rows.shape[1:])


def evaluation_batches(split: Split, batch_size: int) -> tf.data.Dataset:
    """{image, label, index} in the order stored; the last batch may be smaller."""
    steps = -(-split.size // batch_size)
    return _dataset(split, steps, lambda n: np.arange(n * batch_size, min((n + 1) * batch_size, split.size)), (None,))


def _dataset(split: Split, steps: int, rows_of, shape: tuple[int | None, ...]) -> tf.data.Dataset:
    def gather(n):
        rows = rows_of(int(n))
        return split.take(rows), split.labels[rows], rows

    def element(n):
        image, label, index = tf.numpy_function(gather, [n], (tf.uint8, tf.int64, tf.int64), stateful=False)
        return {
            "image": tf.ensure_shape(image, (*shape, *split.image_shape)),
            "label": tf.ensure_shape(label, shape),
            "index": tf.ensure_shape(index, shape),
        }

    options = tf.data.Options()
    options.deterministic = True
    # a plan is already this worker's share
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    made = tf.data.Dataset.range(steps).map(element, num_parallel_calls=_AT_WORK, deterministic=True)
    return made.prefetch(_AHEAD).with_options(options)
