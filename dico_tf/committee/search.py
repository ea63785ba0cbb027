"""The search for a committee: which members, in which order, behind which gates, by held-out images alone.

It works on answers of members that are known already: about whole images (`pool.Pool`, scored by accuracy) or about
the cells of a grid over each image (`dense.cell_pool.CellPool`, scored by mIoU).
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from dico_tf.committee.decision import Committee
from dico_tf.committee.dense.grid import Grid
from dico_tf.errors import UserError

_ROUNDING = 1 + 1e-12  # of averages against limits


@dataclasses.dataclass(frozen=True, kw_only=True)
class Space:
    """Committees that a search tries."""

    largest: int = 4  # members of a committee
    percentiles: int = 100  # number of candidates for each gate
    confidence: str = "max_prob"
    average: str = "logits"
    temperatures: bool = False  # fit a temperature of each member to the calibration images
    weights: bool = False  # fit weights of the members in the average
    score: str = "right"  # of a setting: its right answers; smooth: these and the sum of the labels' probabilities


@dataclasses.dataclass(frozen=True, kw_only=True)
class Goal:
    """Aim of a search: within the limits, the cheapest committee that reaches the target.

    Without a target, it is the committee with the highest score.
    """

    measure: str = "macs"  # of costs: macs, params or milliseconds
    budget: float = math.inf  # average cost of an image
    worst: float = math.inf  # cost of an image for which every member runs
    milliseconds: float = math.inf  # average of an image
    target: float = math.nan  # accuracy or mIoU; NaN = none
    quality: str = "accuracy"  # flag that sets the target: accuracy or miou

    def allows(self, cost: np.ndarray, milliseconds: np.ndarray | float = math.nan) -> np.ndarray:
        """Return bool [...], which settings keep to `budget` and `milliseconds`; `worst` is not checked.

        Args:
            cost: average cost of an image for each setting, [...].
            milliseconds: average milliseconds of an image for each setting.
        """
        allowed = np.asarray(cost <= self.budget * _ROUNDING)
        if self.milliseconds < math.inf:
            allowed &= milliseconds <= self.milliseconds * _ROUNDING
        return allowed


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Point:
    """A committee and its results on the calibration images."""

    committee: Committee
    quality: float  # accuracy or mIoU
    score: float  # by which the search ranks: the number of right answers, its smooth form, or mIoU
    cost: float  # average of an image
    worst: float = math.nan  # cost of an image for which every member runs; NaN if not computed
    milliseconds: float = math.nan  # average; NaN if that of a member is not known
    grid: Grid | None = None  # of a committee that decides about cells


class Answers(Protocol):
    """Interface of the answers of members to held-out images, with the cost of each member."""

    @property
    def members(self) -> tuple[str, ...]: ...

    def cost(self, member: str, measure: str) -> float: ...

    def candidates(self, space: Space, goal: Goal) -> list[Any]:
        """Return what a search tries: a `Pool`'s combinations of members, each a tuple of names.

        A `CellPool` returns the name of each member, then tuples (combination, grid).
        """

    def fronts(self, space: Space, goal: Goal) -> Iterator[list[Point]]:
        """Yield, for each candidate in turn, those of its settings within the limits that no other of them beats.

        To beat is to be better in cost or score and no worse in the other. A `Pool` also leaves out settings if a
        single member within the limits costs no more and has more right answers.
        """

    def template(self, members: Sequence[str], space: Space) -> Committee:
        """Return the ensemble of these members, or of one member a committee of it alone.

        `space` sets its confidence and average, and whether weights and temperatures are fitted. `CellPool` ignores it.
        """

    def everyone(self, space: Space, goal: Goal) -> tuple[str, ...]:
        """Return the members of the full ensemble, the cheapest first.

        These are all members, or in a `CellPool` only its `largest` most expensive ones.
        """


def by_cost(answers: Answers, measure: str) -> list[str]:
    """Return all members, the cheapest first."""
    return sorted(answers.members, key=lambda member: answers.cost(member, measure))


def reference(answers: Answers, kind: str, space: Space, goal: Goal) -> Committee:
    """Return the committee to compare with.

    Args:
        kind: "ensemble", the full ensemble; "largest", the most expensive member alone; or the name of a member.

    Raises UserError for any other kind.
    """
    if kind == "ensemble":
        return answers.template(answers.everyone(space, goal), space)
    if kind == "largest":
        return answers.template(by_cost(answers, goal.measure)[-1:], space)
    if kind in answers.members:
        return answers.template([kind], space)
    raise UserError(f"--reference must be ensemble, largest or a member ({', '.join(answers.members)}), got {kind}")


def search(answers: Answers, space: Space, goal: Goal, tick: Callable[[], None] = lambda: None) -> list[Point]:
    """Return the points within the goal's limits that no other beats in cost and score, sorted by cost.

    `tick` is called after each candidate. Raises UserError if costs are unknown or nothing is within the limits.
    """
    _check_costs(answers, goal)
    front: list[Point] = []
    for points in answers.fronts(space, goal):
        front = pareto([*front, *points])
        tick()
    if not front:
        raise UserError(_nothing(answers, goal))
    return front


def chosen(front: Sequence[Point], goal: Goal) -> Point:
    """Return the cheapest point that reaches the goal's target; without a target, the point with the highest score.

    Raises UserError if no point reaches the target.
    """
    if math.isnan(goal.target):
        return max(front, key=lambda point: (point.score, -point.cost))
    enough = [point for point in front if point.quality >= goal.target - 1e-12]
    if not enough:
        best = max(front, key=lambda point: point.quality)
        raise UserError(
            f"no committee within the limits reaches --{goal.quality}={goal.target:.4f} (by default that of "
            f"--reference) on the calibration images: the best has {best.quality:.4f}, by "
            f"{', '.join(best.committee.members)}; lower --{goal.quality}, or allow a higher cost"
        )
    return min(enough, key=lambda point: (point.cost, -point.score))


def cheapest(score: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """Return the indices of the settings that no other beats in score and cost, by falling score and cost."""
    if not len(score):
        return np.zeros(0, np.int64)
    order = np.lexsort((cost, -score))
    best = np.minimum.accumulate(cost[order])
    first = np.concatenate([[True], best[1:] < best[:-1]])
    return order[first]


def pareto(points: Sequence[Point]) -> list[Point]:
    """Return the points that no other beats in cost and score, by rising cost.

    Of equal points, the one with fewer members stays, then the first.
    """
    ordered = sorted(points, key=lambda point: (point.cost, -point.score, len(point.committee.members)))
    front: list[Point] = []
    for point in ordered:
        if not front or point.score > front[-1].score:
            front.append(point)
    return front


def _check_costs(answers: Answers, goal: Goal) -> None:
    measures = {goal.measure: ", or choose another --cost"}
    if goal.milliseconds < math.inf:
        measures.setdefault("milliseconds", ", or leave --latency out")
    for measure, other in measures.items():
        unknown = [member for member in answers.members if not math.isfinite(answers.cost(member, measure))]
        if unknown:
            raise UserError(f"the {measure} of {', '.join(unknown)} are not known: give them with --costs{other}")


def _nothing(answers: Answers, goal: Goal) -> str:
    limits = {"--budget": goal.budget, "--worst_case": goal.worst, "--latency": goal.milliseconds}
    given = [f"{flag}={value:g}" for flag, value in limits.items() if value < math.inf]
    measures = {goal.measure: "cheapest"} if min(goal.budget, goal.worst) < math.inf else {}
    if goal.milliseconds < math.inf:
        measures.setdefault("milliseconds", "fastest")
    least = []
    for measure, word in measures.items():
        member = by_cost(answers, measure)[0]
        least.append(f"the {word} member, {member}, takes {answers.cost(member, measure):g} {measure}")
    return f"no committee keeps to {' and '.join(given)}: {', and '.join(least)}; allow more"
