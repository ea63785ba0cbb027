"""Rules that combine the logits of several members into one answer.

Every formula takes `ops`, the module numpy or keras.ops, so that evaluation, committees, training and exported graphs
share it. One entry of `AVERAGES` adds a rule to all of them and to the choices of `--average`.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

from dico_tf.formulas.softmax import log_softmax, log_sum_exp
from dico_tf.registry import Registry


def _unchanged(ops, logits):
    return logits


@dataclasses.dataclass(frozen=True, kw_only=True)
class Average:
    """A rule that combines the members' logits. A class that is NaN for any member is NaN in the answer.

    values: (ops, logits [N, ..., C]) -> what is averaged for each member.
    combine: (ops, values [N, S, ..., C] of S members) -> logits [N, ..., C] of all members, equally weighted.
    add: (ops, answer [N, C] so far, values [N, C] of one more member, share) -> answer [N, C] that includes it.
        `share` is its weight divided by the weights of all members so far, including its own.
        If None, `combine` is called again with the values of every member so far.
    weighted: whether `add` uses the share, so that members may have weights.
    """

    help: str
    combine: Callable[[Any, Any], Any]
    values: Callable[[Any, Any], Any] = _unchanged
    add: Callable[[Any, Any, Any, float], Any] | None = None
    weighted: bool = False


AVERAGES: Registry[Average] = Registry("average")


def _add_logits(ops, answer, values, share):
    return answer + share * (values - answer)


AVERAGES.add(
    "logits",
    Average(help="mean of the logits", combine=lambda ops, z: ops.mean(z, axis=1), add=_add_logits, weighted=True),
)


def _mean_probability(ops, log_p):
    """log(1/S sum_s p_s) from log p [N, S, ..., C]"""
    return log_sum_exp(ops, log_p, axis=1) - math.log(log_p.shape[1])


def _add_probability(ops, answer, log_p, share):
    return ops.logaddexp(answer + math.log1p(-share), log_p + math.log(share))


AVERAGES.add(
    "probs",
    Average(
        help="mean of the probabilities",
        values=log_softmax,
        combine=_mean_probability,
        add=_add_probability,
        weighted=True,
    ),
)
AVERAGES.add(
    "max",
    Average(
        help="largest logit of each class",
        combine=lambda ops, z: ops.max(z, axis=1),
        add=lambda ops, answer, z, _: ops.maximum(answer, z),
    ),
)


def _median(ops, z):
    """Median of each class over axis 1, the members; the mean of the middle two if their number is even."""
    ordered = ops.split(z, z.shape[1], axis=1)
    for turn in range(len(ordered)):  # compares neighbours only, through which NaN spreads; sorting would lose it
        for s in range(turn % 2, len(ordered) - 1, 2):
            pair = ordered[s], ordered[s + 1]
            ordered[s], ordered[s + 1] = ops.minimum(*pair), ops.maximum(*pair)
    middle = [ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]]
    return ops.mean(ops.concatenate(middle, axis=1), axis=1)


AVERAGES.add("median", Average(help="median logit of each class", combine=_median))
