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
    """The committees that are looked through."""

    largest: int = 4  # members of a committee
    percentiles: int = 100  # candidates of each gate
    confidence: str = "max_prob"
    average: str = "logits"
    temperatures: bool = False  # fit a temperature of each member to the calibration images
    weights: bool = False  # fit weights of the members in the average
    score: str = "right"  # of a setting: its right answers; smooth: these and the sum of the labels' probabilities


@dataclasses.dataclass(frozen=True, kw_only=True)
class Goal:
    """The best committee within the limits, or the cheapest one that reaches the target where there is one."""

    measure: str = "macs"
    budget: float = math.inf  # average cost of an image
    worst: float = math.inf  # cost of an image for which every member runs
    milliseconds: float = math.inf  # average of an image
    target: float = math.nan  # accuracy or mIoU
    quality: str = "accuracy"  # flag that sets the target: accuracy or miou

    def allows(self, cost: np.ndarray, milliseconds: np.ndarray | float = math.nan) -> np.ndarray:
        """Return which settings keep to the limits on average costs."""
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
    worst: float = math.nan
    milliseconds: float = math.nan  # average; NaN if that of a member is not known
    grid: Grid | None = None  # of a committee that decides about cells


class Answers(Protocol):
    """Answers of members to held-out images, with what each member costs."""

    @property
    def members(self) -> tuple[str, ...]: ...

    def cost(self, member: str, measure: str) -> float: ...

    def candidates(self, space: Space, goal: Goal) -> list[Any]:
        """Return the combinations of members, each with the grid if there are several."""

    def fronts(self, space: Space, goal: Goal) -> Iterator[list[Point]]:
        """Yield, for each candidate in turn, its best settings within the goal's limits."""

    def template(self, members: Sequence[str], space: Space) -> Committee:
        """Return the ensemble of these members, or a member alone."""

    def everyone(self, space: Space, goal: Goal) -> tuple[str, ...]:
        """Return the members of the full ensemble, the cheapest first."""


def by_cost(answers: Answers, measure: str) -> list[str]:
    """Return all members, the cheapest first."""
    return sorted(answers.members, key=lambda member: answers.cost(member, measure))


def reference(answers: Answers, kind: str, space: Space, goal: Goal) -> Committee:
    """Return what a committee is compared with: the full ensemble, the most expensive member, or a member by name."""
    if kind == "ensemble":
        return answers.template(answers.everyone(space, goal), space)
    if kind == "largest":
        return answers.template(by_cost(answers, goal.measure)[-1:], space)
    if kind in answers.members:
        return answers.template([kind], space)
    raise UserError(f"--reference must be ensemble, largest or a member ({', '.join(answers.members)}), got {kind}")


def search(answers: Answers, space: Space, goal: Goal, tick: Callable[[], None] = lambda: None) -> list[Point]:
    """Return the points within the goal's limits that no other beats in cost and score, sorted by cost.

    `tick` is called after each candidate.
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
    """Return the point of a front with the highest score, or the cheapest that reaches the goal's target."""
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
    """Return the positions of the front of (score, cost), by falling score: none is beaten in both."""
    if not len(score):
        return np.zeros(0, np.int64)
    order = np.lexsort((cost, -score))
    best = np.minimum.accumulate(cost[order])
    first = np.concatenate([[True], best[1:] < best[:-1]])
    return order[first]


def pareto(points: Sequence[Point]) -> list[Point]:
    """Return the points that no other beats, by rising cost; of equals the one with fewer members, then the first."""
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
    member = by_cost(answers, goal.measure)[0]
    limits = {"--budget": goal.budget, "--worst_case": goal.worst, "--latency": goal.milliseconds}
    given = ", ".join(f"{flag}={value:g}" for flag, value in limits.items() if value < math.inf)
    least = answers.cost(member, goal.measure)
    return f"no committee keeps to {given}: the cheapest member, {member}, takes {least:g} {goal.measure}; allow more"
