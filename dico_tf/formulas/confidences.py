"""Confidences that decide where a cascade stops: one number for each image, higher is surer.

Every formula takes `ops`, the module numpy or keras.ops; the answer of the members so far, logits [N, C]; and the
logits [N, k, C] of each of these members, without temperatures and weights. It returns [N]. One entry of `CONFIDENCES`
adds a confidence to the search, to exported cascades, to the gateway and to the choices of `--gate`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

from dico_tf.formulas.softmax import log_sum_exp, softmax
from dico_tf.registry import Registry

_SUREST = 3.4028234663852886e38  # largest float32; infinity is the gate that nothing passes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Confidence:
    help: str
    formula: Callable[[Any, Any, Any], Any]  # (ops, answer [N, C], members' logits [N, k, C]) -> [N]


CONFIDENCES: Registry[Confidence] = Registry("confidence")


def _max_prob(ops, answer, members):
    """max p, for p = softmax(answer)"""
    return ops.max(softmax(ops, answer), axis=-1)


def _gap(ops, values):
    """Largest value minus second largest over the last axis; the largest float32 if there is only one class."""
    if values.shape[-1] < 2:
        return ops.full_like(values[..., 0], _SUREST)
    if hasattr(ops, "partition"):  # only numpy has it
        largest = ops.partition(values, -2, -1)
        return largest[..., -1] - largest[..., -2]
    largest = ops.top_k(values, 2)[0]
    return largest[..., 0] - largest[..., 1]


def _prob_gap(ops, answer, members):
    """p1 - p2 of the two largest probabilities of softmax(answer)"""
    return _gap(ops, softmax(ops, answer))


def _logit_gap(ops, answer, members):
    """z1 - z2 of the two largest logits of the answer"""
    return _gap(ops, answer)


def _entropy(ops, answer, members):
    """Negative entropy sum p log p in nats, for p = softmax(answer); 0 log 0 = 0"""
    p = softmax(ops, answer)
    return ops.sum(p * ops.log(ops.where(p > 0, p, ops.ones_like(p))), axis=-1)


def _agreement(ops, answer, members):
    """Share of the members so far whose class (argmax) is that of the answer: 1 after the first member"""
    same = ops.equal(ops.argmax(members, axis=-1), ops.expand_dims(ops.argmax(answer, axis=-1), -1))
    return ops.sum(ops.where(same, 1.0, 0.0), axis=-1) / members.shape[1]


CONFIDENCES.add("max_prob", Confidence(help="largest probability", formula=_max_prob))
CONFIDENCES.add("prob_gap", Confidence(help="gap between the two largest probabilities", formula=_prob_gap))
CONFIDENCES.add("logit_gap", Confidence(help="gap between the two largest logits", formula=_logit_gap))
CONFIDENCES.add("entropy", Confidence(help="negative entropy of the probabilities", formula=_entropy))
CONFIDENCES.add("agreement", Confidence(help="share of members that choose the same class", formula=_agreement))


def _energy(ops, answer, members):
    """Mean over the members of log sum exp z, the negative free energy (Liu et al., arXiv 2010.03759)"""
    return ops.mean(log_sum_exp(ops, members), axis=-1)


CONFIDENCES.add("energy", Confidence(help="negative energy of the members' logits", formula=_energy))
