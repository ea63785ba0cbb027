"""A committee, and what it decides about logits that are known already: the definition all other forms are held to."""

import dataclasses
import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike

from dico_tf.committee.confidence import confidence
from dico_tf.errors import UserError
from dico_tf.formulas.averages import AVERAGES
from dico_tf.formulas.confidences import CONFIDENCES

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
        CONFIDENCES[self.confidence]
        average = AVERAGES[self.average]
        if self.weights and not average.weighted:
            return f"average={self.average} takes no weights; leave them out"
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
    """Yield the answer [N, C] of the first 1, 2, ... n members from the logits [N, n, C] of all.

    logits: a_k = a_{k-1} + w_k / W_k (z_k - a_{k-1}), W_k = w_1 + ... + w_k; probs: the logarithm of the same mean of
    probabilities; max: the largest logit so far. The first is the member's own logits, untouched.
    """
    answer = None
    for k in range(len(committee.members)):
        answer = joined(committee, answer, range(k + 1), logits[:, : k + 1])
        yield answer


def joined(committee: Committee, before: np.ndarray | None, places: Sequence[int], logits: np.ndarray) -> np.ndarray:
    """Return the answer [N, C] of the members at `places`, some of which may be missing from the committee's order.

    logits: [N, k, C] of these members. before: [N, C], the answer without the last of them; None if there is no other.
    """
    average = AVERAGES[committee.average]
    with np.errstate(divide="ignore", invalid="ignore"):  # infinity less itself: such a row becomes NaN
        if before is not None and average.add is None:
            values = [average.values(np, scaled(committee, k, logits[:, n])) for n, k in enumerate(places)]
            return average.combine(np, np.stack(values, 1))
        own = average.values(np, scaled(committee, places[-1], logits[:, -1]))
        return own if before is None else average.add(np, before, own, share(committee, places))


def scaled(committee: Committee, k: int, logits: np.ndarray) -> np.ndarray:
    """Return the logits of member k in float64, divided by its temperature."""
    values = np.asarray(logits, np.float64)
    return values / committee.temperatures[k] if committee.temperatures else values


def share(committee: Committee, places: Sequence[int]) -> float:
    """Return the last member's weight as a share of the weights of all members at `places`."""
    weights = np.asarray(committee.weights or np.ones(len(committee.members)))[list(places)]
    return float(weights[-1] / np.cumsum(weights)[-1])


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
