"""Cascade as a TensorFlow graph: each member runs only on the images of which the members before it were unsure.

The numpy definition is committee/decision.py. As there, running means are float64 and confidences float32, for members
of any precision. A member without images to run on is skipped.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf
from keras import ops

from dico_tf.committee.decision import NEVER, Committee, share
from dico_tf.committee.routing import BUCKETS
from dico_tf.formulas.averages import AVERAGES
from dico_tf.formulas.confidences import CONFIDENCES

SIGNATURE = "cascade"
OUTPUTS = ("probabilities", "class_id", "stage", "cost")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Cascade:
    """A committee with the networks and costs of its members, which `answers` runs."""

    committee: Committee
    networks: Sequence[Callable[[tf.Tensor], tf.Tensor]]  # images -> logits [B, C], in the order of the members
    costs: Sequence[int]  # multiply-adds of each member for one image
    classes: int
    buckets: Sequence[int] = BUCKETS  # batch sizes to which the images of all members but the first are padded


def answers(cascade: Cascade, image: tf.Tensor) -> dict[str, tf.Tensor]:
    """Return the outputs by name: logits and probabilities [B, C], class_id, stage and cost [B].

    `stage` is the position of the last member that ran for an image, from 0. `cost` is the sum of the multiply-adds of
    the members that ran. The batch may be empty.

    Args:
        image: what the members' networks take, [B, ...].
    """
    count = tf.shape(image)[0]
    members = len(cascade.networks)
    answer = tf.zeros((count, cascade.classes), tf.float64)
    apart = tf.zeros((count, members, cascade.classes), tf.float32)  # logits of each member that ran
    stage, going = tf.zeros((count,), tf.int64), tf.ones((count,), tf.bool)
    for k in range(members):
        rows = tf.where(going)[:, 0]
        stage = tf.where(going, tf.constant(k, tf.int64), stage)
        state = (answer, apart, going)
        answer, apart, going = tf.cond(
            tf.size(rows) > 0,
            lambda k=k, rows=rows, state=state: _step(cascade, k, image, rows, *state),
            lambda state=state: tuple(map(tf.identity, state)),
        )
    logits = tf.cast(answer, tf.float32)
    spent = tf.constant(np.cumsum(cascade.costs), tf.int64)
    outputs = {
        "logits": logits,
        "probabilities": tf.nn.softmax(logits),
        "class_id": tf.argmax(answer, -1, output_type=tf.int64),
        "stage": stage,
        "cost": tf.gather(spent, stage),
    }
    return {name: tf.identity(value, name=name) for name, value in outputs.items()}


def _step(
    cascade: Cascade, k: int, image: tf.Tensor, rows: tf.Tensor, answer: tf.Tensor, apart: tf.Tensor, going: tf.Tensor
) -> tuple[tf.Tensor, ...]:
    """Return `answer`, `apart` and `going` after member k has run on these rows of the batch.

    They are the members' common answer so far [B, C], the logits of each member [B, n, C], and whether the next member
    runs, bool [B].
    """
    count = tf.size(rows)
    batch = rows if k == 0 else _filled(rows, tf.minimum(_bucket(count, cascade.buckets), tf.shape(image)[0]))
    logits = cascade.networks[k](image if k == 0 else tf.gather(image, batch))[:count]
    logits = tf.cast(tf.ensure_shape(logits, (None, cascade.classes)), tf.float32)
    so_far = tf.concat([tf.gather(apart, rows)[:, :k], logits[:, None]], 1)
    together = _joined(cascade.committee, k, tf.gather(answer, rows), so_far)
    confidence = _confidence(cascade.committee.confidence, together, so_far)
    places = rows[:, None]
    column = tf.fill((count, 1), tf.constant(k, tf.int64))
    return (
        tf.tensor_scatter_nd_update(answer, places, together),
        tf.tensor_scatter_nd_update(apart, tf.concat([places, column], 1), logits),
        tf.tensor_scatter_nd_update(going, places, _unsure(cascade.committee, k, confidence)),
    )


def _bucket(count: tf.Tensor, buckets: Sequence[int]) -> tf.Tensor:
    """Return the smallest bucket for `count` images; above the largest, the next multiple of it."""
    largest = max(buckets)
    sizes = tf.constant(sorted(buckets), tf.int32)
    small = tf.reduce_min(tf.where(sizes >= count, sizes, largest))
    return tf.where(count <= largest, small, -(-count // largest) * largest)


def _filled(rows: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Return `size` rows: these, and then the last one again."""
    return tf.concat([rows, tf.fill((size - tf.size(rows),), rows[-1])], 0)


def _joined(committee: Committee, k: int, before: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Return the answer [B, C] of members 0 to k from their logits [B, k + 1, C]; `before` is that of 0 to k - 1."""
    average, places = AVERAGES[committee.average], range(k + 1)
    temperatures = committee.temperatures or (1.0,) * len(committee.members)
    if k > 0 and average.add is None:
        scaled = [tf.cast(logits[:, n], tf.float64) / temperatures[n] for n in places]
        return average.combine(ops, tf.stack([average.values(ops, each) for each in scaled], 1))
    own = average.values(ops, tf.cast(logits[:, k], tf.float64) / temperatures[k])
    return own if k == 0 else average.add(ops, before, own, share(committee, places))


def _unsure(committee: Committee, k: int, sure: tf.Tensor) -> tf.Tensor:
    """Return for each image whether the next member runs: if the confidence after member k is below its gate or NaN.

    It is false after the last member. `sure` is the confidence [B].
    The graph optimiser rewrites `not confidence >= gate` to `confidence < gate`, which is wrong for NaN.
    """
    if k + 1 == len(committee.members):
        return tf.zeros_like(sure, tf.bool)
    if committee.gates[k] == NEVER:
        return tf.ones_like(sure, tf.bool)
    return tf.math.is_nan(sure) | (tf.cast(sure, tf.float64) < committee.gates[k])


def _confidence(name: str, answer: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Return the confidence float32 [B] of answers [B, C]; NaN where the answer contains NaN or infinity.

    Args:
        name: key of CONFIDENCES.
        logits: of each member that gave the answer, [B, n, C].
    """
    values = tf.cast(CONFIDENCES[name].formula(ops, tf.cast(answer, tf.float32), logits), tf.float32)
    finite = tf.reduce_all(tf.math.is_finite(answer), -1)
    return tf.where(finite, values, tf.constant(np.nan, tf.float32))
