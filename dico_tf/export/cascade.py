"""Cascade as a TensorFlow graph: each member runs only on the images of which the members before it were unsure.

The numpy definition is committee/decision.py. As there, running means are float64 and confidences float32, for members
of any precision. A member without images to run on is skipped.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from dico_tf.committee.decision import NEVER, Committee
from dico_tf.committee.routing import BUCKETS

SIGNATURE = "cascade"
OUTPUTS = ("probabilities", "class_id", "stage", "cost")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Cascade:
    """A committee with the networks and costs of its members."""

    committee: Committee
    networks: Sequence[Callable[[tf.Tensor], tf.Tensor]]  # images -> logits [B, C], in the order of the members
    costs: Sequence[int]  # multiply-adds of each
    classes: int
    buckets: Sequence[int] = BUCKETS


def answers(cascade: Cascade, image: tf.Tensor) -> dict[str, tf.Tensor]:
    """Return logits and probabilities [B, C], class_id, stage (number of the last member that ran) and cost [B].

    The batch may be empty.
    """
    count = tf.shape(image)[0]
    members = len(cascade.networks)
    answer = tf.zeros((count, cascade.classes), tf.float64)
    chosen = tf.zeros((count, members), tf.int64)  # the class that each member asked is for
    stage, going = tf.zeros((count,), tf.int64), tf.ones((count,), tf.bool)
    for k in range(members):
        rows = tf.where(going)[:, 0]
        stage = tf.where(going, tf.constant(k, tf.int64), stage)
        state = (answer, chosen, going)
        answer, chosen, going = tf.cond(
            tf.size(rows) > 0,
            lambda k=k, rows=rows, state=state: _step(cascade, k, image, rows, *state),
            lambda state=state: tuple(map(tf.identity, state)),
        )
    logits = tf.cast(answer, tf.float32)
    spent = tf.constant(np.cumsum(cascade.costs), tf.int64)
    found = {
        "logits": logits,
        "probabilities": tf.nn.softmax(logits),
        "class_id": tf.argmax(answer, -1, output_type=tf.int64),
        "stage": stage,
        "cost": tf.gather(spent, stage),
    }
    return {name: tf.identity(value, name=name) for name, value in found.items()}


def _step(
    cascade: Cascade, k: int, image: tf.Tensor, rows: tf.Tensor, answer: tf.Tensor, chosen: tf.Tensor, going: tf.Tensor
) -> tuple[tf.Tensor, ...]:
    """Asks member k about these rows; the answer so far [B, C], the members' choices [B, n], and who goes on [B]."""
    count = tf.size(rows)
    asked = rows if k == 0 else _filled(rows, tf.minimum(_bucket(count, cascade.buckets), tf.shape(image)[0]))
    logits = cascade.networks[k](image if k == 0 else tf.gather(image, asked))[:count]
    logits = tf.ensure_shape(logits, (None, cascade.classes))
    together = _joined(cascade.committee, k, tf.gather(answer, rows), logits)
    places = rows[:, None]
    own = tf.argmax(logits, -1, output_type=tf.int64)
    before = tf.gather(chosen, rows)[:, :k]
    sure = _confidence(cascade.committee.confidence, together, tf.concat([before, own[:, None]], 1))
    column = tf.fill((count, 1), tf.constant(k, tf.int64))
    return (
        tf.tensor_scatter_nd_update(answer, places, together),
        tf.tensor_scatter_nd_update(chosen, tf.concat([places, column], 1), own),
        tf.tensor_scatter_nd_update(going, places, _unsure(cascade.committee, k, sure)),
    )


def _bucket(count: tf.Tensor, buckets: Sequence[int]) -> tf.Tensor:
    """Return the smallest bucket that is large enough, or a multiple of the largest bucket."""
    largest = max(buckets)
    sizes = tf.constant(sorted(buckets), tf.int32)
    small = tf.reduce_min(tf.where(sizes >= count, sizes, largest))
    return tf.where(count <= largest, small, -(-count // largest) * largest)


def _filled(rows: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Pad the rows to a batch of this size by repeating the last one."""
    return tf.concat([rows, tf.fill((size - tf.size(rows),), rows[-1])], 0)


def _joined(committee: Committee, k: int, so_far: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    own = tf.cast(logits, tf.float64)
    own = own / committee.temperatures[k] if committee.temperatures else own
    own = tf.nn.log_softmax(own) if committee.average == "probs" else own
    if k == 0:
        return own
    weights = np.cumsum((committee.weights or (1.0,) * len(committee.members))[: k + 1])
    share = 1 - weights[-2] / weights[-1]
    if committee.average == "max":
        return tf.maximum(so_far, own)
    if committee.average == "probs":
        return tf.reduce_logsumexp(tf.stack([so_far + np.log1p(-share), own + np.log(share)]), 0)
    return so_far + share * (own - so_far)


def _unsure(committee: Committee, k: int, sure: tf.Tensor) -> tf.Tensor:
    """Return where the confidence is below the gate or NaN.

    The graph optimiser rewrites `not confidence >= gate` to `confidence < gate`, which is wrong for NaN.
    """
    if k + 1 == len(committee.members):
        return tf.zeros_like(sure, tf.bool)
    if committee.gates[k] == NEVER:
        return tf.ones_like(sure, tf.bool)
    return tf.math.is_nan(sure) | (tf.cast(sure, tf.float64) < committee.gates[k])


def _confidence(name: str, together: tf.Tensor, chosen: tf.Tensor) -> tf.Tensor:
    """float32 [B]; NaN where the answer is no number."""
    found = _CONFIDENCES[name](tf.cast(together, tf.float32), chosen)
    finite = tf.reduce_all(tf.math.is_finite(together), -1)
    return tf.where(finite, found, tf.constant(np.nan, tf.float32))


def _gap(values: tf.Tensor) -> tf.Tensor:
    if values.shape[-1] < 2:
        return tf.fill((tf.shape(values)[0],), np.finfo(np.float32).max)
    first, second = tf.unstack(tf.math.top_k(values, 2).values, axis=-1)
    return first - second


def _entropy(p: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(p * tf.math.log(tf.where(p > 0, p, tf.ones_like(p))), -1)


def _agreement(together: tf.Tensor, chosen: tf.Tensor) -> tf.Tensor:
    same = chosen == tf.argmax(together, -1, output_type=tf.int64)[:, None]
    return tf.cast(tf.reduce_mean(tf.cast(same, tf.float64), -1), tf.float32)


_CONFIDENCES = {  # as committee/confidence.py: (running answer [B, C], classes [B, k] of the members so far) -> [B]
    "max_prob": lambda together, _: tf.reduce_max(tf.nn.softmax(together), -1),
    "prob_gap": lambda together, _: _gap(tf.nn.softmax(together)),
    "logit_gap": lambda together, _: _gap(together),
    "entropy": lambda together, _: _entropy(tf.nn.softmax(together)),
    "agreement": _agreement,
}
