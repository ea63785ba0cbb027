"""A committee, and its decision when the logits of all members are known.

Tests compare routing, graphs and the gateway with it.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike

from dico_tf.errors import UserError
from dico_tf.formulas import softmax as formulas
from dico_tf.formulas.averages import AVERAGES
from dico_tf.formulas.confidences import CONFIDENCES

NEVER = math.inf  # a gate that nothing passes; 1.0 is not one: float32 rounds a lead of 17 logits to certainty
ALWAYS = -math.inf  # a gate that every confidence but NaN passes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Committee:
    """Members in the order they run. After member k, from 0, an answer is final if its confidence is >= gates[k].

    Raises:
        UserError: if fields contradict each other, or the confidence or average is unknown.
    """

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
        if not self.members:
            return "expected at least one member"
        if twice := [member for member in self.members if self.members.count(member) > 1]:
            return f"expected each member only once, got {twice[0]} {self.members.count(twice[0])} times"
        if len(self.gates) != len(self.members) - 1:
            return f"expected {len(self.members) - 1} gates, one after each member but the last, got {len(self.gates)}"
        if any(map(math.isnan, self.gates)):
            return "a gate is NaN; write infinity for a gate that nothing passes"
        for name in ("weights", "temperatures"):
            values = getattr(self, name)
            if values and len(values) != len(self.members):
                return f"expected {len(self.members)} {name}, one for each member, got {len(values)}"
            if not all(0 < value < math.inf for value in values):
                return f"expected positive, finite {name}, got {', '.join(map(str, values))}"
        CONFIDENCES[self.confidence]
        average = AVERAGES[self.average]
        if self.weights and not average.weighted:
            return f"average={self.average} takes no weights; leave them out"
        return ""

    @property
    def kind(self) -> str:
        """Kind of committee: "single" for one member, "ensemble" if all members always run, else "cascade"."""
        if len(self.members) == 1:
            return "single"
        return "ensemble" if all(gate == NEVER for gate in self.gates) else "cascade"


def ensemble(*members: str, **how) -> Committee:
    """Return a committee whose members all run on every image; `how` sets other fields, such as average."""
    return Committee(members=members, gates=(NEVER,) * (len(members) - 1), **how)


@dataclasses.dataclass(frozen=True, eq=False)
class Decision:
    """Final answers of a committee for N images."""

    logits: np.ndarray  # [N, C] of the final answer
    stage: np.ndarray  # int64 [N], the last member that ran, from 0
    confidence: np.ndarray  # float32 [N, n], after each member; NaN after one that did not run
    lost: np.ndarray  # bool [N]: NaN or infinity in the answer; such rows went to the last member

    @property
    def classes(self) -> np.ndarray:
        return self.logits.argmax(-1)

    def right(self, labels: np.ndarray) -> np.ndarray:
        """Return bool [N], whether each answer is correct."""
        return are_right(self.logits, labels)


def are_right(answers: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return bool [...]: the largest of an answer [..., C] is the label's; False if it contains NaN or infinity."""
    return (answers.argmax(-1) == labels) & np.isfinite(answers).all(-1)


def running(committee: Committee, logits: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the combined answers [N, C] of the first 1, 2, ... n members, from the logits of N images, [N, n, C].

    The rule of `committee.average` combines the logits z_k of member k, divided by its temperature. The mean of logits,
    with weights w_k, is a_1 = z_1 and then a_k = a_{k-1} + w_k / (w_1 + ... + w_k) (z_k - a_{k-1}).
    """
    answer = None
    for k in range(len(committee.members)):
        answer = joined(committee, answer, range(k + 1), logits[:, : k + 1])
        yield answer


def joined(committee: Committee, before: np.ndarray | None, places: Sequence[int], logits: np.ndarray) -> np.ndarray:
    """Return the combined answer [N, C] of some of the members, for example of those that did not fail.

    Args:
        before: the combined answer [N, C] of all these members but the last; None if there is only one.
        places: their k indices in `committee.members`.
        logits: their logits [N, k, C], not yet divided by temperatures.
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


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the softmax over the last axis, in float32: in half precision a lead of 8 logits would give exactly 1."""
    with np.errstate(invalid="ignore"):  # infinity less itself: such a row becomes NaN
        return formulas.softmax(np, np.asarray(logits, np.float32))


def confidence(name: str, answer: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Return the confidence `name` as float32 [N]; NaN where the answer contains NaN or infinity.

    Args:
        answer: combined logits [N, C] of the members so far.
        members: logits [N, k, C] of each of these members, without temperatures.
    """
    formula = CONFIDENCES[name].formula
    with np.errstate(invalid="ignore"):
        values = formula(np, np.asarray(answer, np.float32), np.asarray(members, np.float32)).astype(np.float32)
    values[~np.isfinite(answer).all(-1)] = np.nan
    return values


def stages(committee: Committee, logits: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return the combined answers [N, n, C] of the first 1, 2 ... n members, and their confidences float32 [N, n].

    Args:
        logits: [N, n, C] of N images and n members.
    """
    logits = checked_members(committee, logits)
    answers = np.stack(list(running(committee, logits)), 1)
    confidences = [confidence(committee.confidence, answers[:, k], logits[:, : k + 1]) for k in range(logits.shape[1])]
    return answers, np.stack(confidences, 1)


def decide(committee: Committee, logits: ArrayLike) -> Decision:
    """Return the committee's decision on N images from the logits [N, n, C] of its n members."""
    answers, confidences = stages(committee, logits)
    stage = stage_of(confidences, committee.gates)
    final = answers[np.arange(len(stage)), stage]
    return Decision(final, stage, confidences, ~np.isfinite(final).all(-1))


def stage_of(confidences: np.ndarray, gates: tuple[float, ...]) -> np.ndarray:
    """Return int64 [N], the first stage, from 0, whose confidence reaches its gate, else the last stage.

    Args:
        confidences: [N, n], after each of n stages.
        gates: of all stages but the last.
    """
    passed = passes(confidences[:, :-1], gates)
    return np.concatenate([passed, np.ones((len(passed), 1), bool)], 1).argmax(1)


def passes(confidences: np.ndarray, gates: ArrayLike) -> np.ndarray:
    """Return confidence >= gate. Nothing passes the gate NEVER, not even infinity, and NaN passes no gate."""
    gates = np.asarray(gates, np.float64)  # numpy would round a Python float to float32 before it compares
    return (confidences >= gates) & (gates != NEVER)


def checked_members(committee: Committee, logits: ArrayLike) -> np.ndarray:
    """Return the logits of N images and the committee's n members as an array [N, n, C].

    Raises UserError for another shape, or for numbers that are not floats. Any C is accepted.
    """
    logits = np.asarray(logits)
    if logits.dtype.kind != "f" or logits.ndim != 3 or logits.shape[1] != len(committee.members):
        raise UserError(
            f"expected logits as floats [N, {len(committee.members)}, C], one row for each of "
            f"{', '.join(committee.members)}, got {logits.dtype} {list(logits.shape)}"
        )
    return logits


def reach(stage: np.ndarray, members: int) -> np.ndarray:
    """Return [n], the share of images on which each of n members runs; zeros if there are no images.

    stage: int [N], the last member that ran on each image, from 0.
    """
    return (np.asarray(stage)[:, None] >= np.arange(members)).mean(0) if len(stage) else np.zeros(members)


def average_cost(costs: Sequence[float], stage: np.ndarray) -> float:
    """Return the mean cost of an image in a cascade: the sum of `costs` over the members that ran on it.

    stage: int [N], the last member that ran on each image, from 0.
    """
    return float(np.asarray(costs, np.float64) @ reach(stage, len(costs)))


def reachable(gates: Sequence[float]) -> int:
    """Return how many members can run if all answers are finite: no member after the first whose gate is ALWAYS."""
    for k, gate in enumerate(gates):
        if gate == -math.inf:
            return k + 1
    return len(gates) + 1


def worst_cost(costs: Sequence[float], gates: Sequence[float]) -> float:
    """Return the largest cost of an image if all answers are finite: the sum over the first `reachable` members."""
    return float(np.sum(costs[: reachable(gates)]))
