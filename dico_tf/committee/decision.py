"""A committee, and what it decides about logits that are known already: the definition all other forms are held to."""

import dataclasses
import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike

from dico_tf.committee.confidence import CONFIDENCES, confidence
from dico_tf.errors import UserError
from dico_tf.evaluation.averaging import checked_average, log_softmax

NEVER = math.inf  # a gate nothing passes; 1.0 is none: float32 rounds a lead of 17 logits to certainty
ALWAYS = -math.inf  # a gate all pass but NaN


@dataclasses.dataclass(frozen=True, kw_only=True)
class Committee:
    """Members in the order they are asked. After member k the answer is final where confidence >= gates[k]."""

    members: tuple[str, ...]
    gates: tuple[float, ...] = ()  # one less than members
    confidence: str = "max_prob"
    average: str = "logits"
    weights: tuple[float, ...] = ()  # of each member in the mean; () = equal
    temperatures: tuple[float, ...] = ()  # each member's logits are divided by its own; () = 1

    def __post_init__(self) -> None:
        if fault := self._fault():
            raise UserError(f"a committee of {', '.join(self.members) or 'nobody'}: {fault}")
        checked_average(self.average)

    def _fault(self) -> str:
        if not self.members or len(set(self.members)) < len(self.members):
            return "it needs members, and each once"
        if len(self.gates) != len(self.members) - 1:
            return f"{len(self.gates)} gates, and it needs {len(self.members) - 1}: one after each member but the last"
        if any(map(math.isnan, self.gates)):
            return "a gate is NaN; a gate nothing passes is infinity"
        for name in ("weights", "temperatures"):
            values = getattr(self, name)
            if values and (len(values) != len(self.members) or not all(0 < v < math.inf for v in values)):
                return f"{name} are {', '.join(map(str, values))}; it needs a positive number for each member"
        if self.weights and self.average == "max":
            return "the largest logit of all knows no weights"
        CONFIDENCES[self.confidence]
        return ""

    @property
    def kind(self) -> str:
        if len(self.members) == 1:
            return "single"
        return "ensemble" if all(gate == NEVER for gate in self.gates) else "cascade"


def ensemble(*members: str, **how) -> Committee:
    """All members are always asked."""
    return Committee(members=members, gates=(NEVER,) * (len(members) - 1), **how)


@dataclasses.dataclass(frozen=True, eq=False)
class Decision:
    logits: np.ndarray  # [N, C] of the running answer where it stopped
    stage: np.ndarray  # int64 [N], the last member asked, from 0
    confidence: np.ndarray  # float32 [N, n], after each member; of one that was really not asked it is NaN
    lost: np.ndarray  # bool [N]: NaN or infinity in the answer; such rows went to the last member

    @property
    def classes(self) -> np.ndarray:
        return self.logits.argmax(-1)

    def right(self, labels: np.ndarray) -> np.ndarray:
        return are_right(self.logits, labels)


def are_right(answers: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """bool [...] of answers [..., C]; with NaN or infinity in it one is none, wherever its largest number stands."""
    return (answers.argmax(-1) == labels) & np.isfinite(answers).all(-1)


def running(committee: Committee, logits: np.ndarray) -> Iterator[np.ndarray]:
    """[N, n, C] -> the answer [N, C] of the first 1, 2, ... n members.

    logits: a_k = a_{k-1} + w_k / W_k (z_k - a_{k-1}), W_k = w_1 + ... + w_k; probs: the logarithm of the same mean of
    probabilities; max: the largest logit so far. The first is the member's own logits, untouched.
    """
    so_far = None
    for k in range(len(committee.members)):
        so_far = joined(committee, so_far, range(k), k, logits[:, k])
        yield so_far


def joined(
    committee: Committee, so_far: np.ndarray | None, before: Sequence[int], k: int, logits: np.ndarray
) -> np.ndarray:
    """The answer [N, C] of the members `before`, of whom some may have failed, and of k, who says `logits` [N, C]."""
    own = committee_logits(committee, k, logits)
    if so_far is None:
        return own
    weights = np.asarray(committee.weights or np.ones(len(committee.members)))
    share = weights[k] / np.cumsum(weights[[*before, k]])[-1]
    return _MEANS[committee.average](so_far, own, share)


def committee_logits(committee: Committee, k: int, logits: np.ndarray) -> np.ndarray:
    """Of member k, as they enter the mean: float64, divided by its temperature."""
    values = np.asarray(logits, np.float64)
    values = values / committee.temperatures[k] if committee.temperatures else values
    with np.errstate(invalid="ignore"):  # infinity less itself: such a row is NaN, as it shall be
        return log_softmax(values) if committee.average == "probs" else values


def _mean_of_logits(so_far: np.ndarray, own: np.ndarray, share: float) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return so_far + share * (own - so_far)


def _mean_of_probabilities(so_far: np.ndarray, own: np.ndarray, share: float) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.logaddexp(so_far + np.log1p(-share), own + np.log(share))


_MEANS = {  # (answer so far, member's logits, the member's share) -> answer
    "logits": _mean_of_logits,
    "probs": _mean_of_probabilities,
    "max": lambda so_far, own, _: np.maximum(so_far, own),
}


def stages(committee: Committee, logits: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """(answers [N, n, C] of the first 1 to n members, confidences float32 [N, n])."""
    logits = checked_members(committee, logits)
    answers = np.stack(list(running(committee, logits)), 1)
    confidences = [confidence(committee.confidence, answers[:, k], logits[:, : k + 1]) for k in range(logits.shape[1])]
    return answers, np.stack(confidences, 1)


def decide(committee: Committee, logits: ArrayLike) -> Decision:
    """What the committee answers where every member's logits [N, n, C] are known."""
    answers, confidences = stages(committee, logits)
    stage = stage_of(confidences, committee.gates)
    final = answers[np.arange(len(stage)), stage]
    return Decision(final, stage, confidences, ~np.isfinite(final).all(-1))


def stage_of(confidences: np.ndarray, gates: tuple[float, ...]) -> np.ndarray:
    """The first stage whose gate is passed, confidence >= gate, else the last: [N, n] -> int64 [N]."""
    passed = passes(confidences[:, :-1], gates)
    return np.concatenate([passed, np.ones((len(passed), 1), bool)], 1).argmax(1)


def passes(confidences: np.ndarray, gates: ArrayLike) -> np.ndarray:
    """confidence >= gate; a confidence of infinity does not pass a gate that is never passed, and NaN passes none."""
    gates = np.asarray(gates, np.float64)  # compared as such: a number of Python would be rounded to float32 first
    return (confidences >= gates) & (gates != NEVER)


def checked_members(committee: Committee, logits: ArrayLike) -> np.ndarray:
    found = np.asarray(logits)
    if found.dtype.kind != "f" or found.ndim != 3 or found.shape[1] != len(committee.members):
        raise UserError(
            f"logits are {found.dtype} {list(found.shape)}, expected floats [N, {len(committee.members)}, C]: one row "
            f"for each of {', '.join(committee.members)}"
        )
    return found
