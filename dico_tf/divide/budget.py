"""Search for the scale of all widths at which a network's cost is nearest a target, then refine single widths."""

import dataclasses
import math
from collections.abc import Callable, Hashable, Iterable
from typing import Any

OFF_TARGET = 0.10  # relative distance from the target beyond which users are warned
_ENOUGH = 0.004  # relative distance at which the search stops
_FINEST = 1e-3  # relative size of the bracket at which the search stops: no grid of channels is finer
_PATIENCE = 8  # points tried without getting nearer, after which `refine` stops


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A choice of widths and its cost.

    Attributes:
        point: the widths, in any form that the caller understands.
        scale: the factor at most 1 with which they were proposed; refining the widths does not change it.
        cost: cost of the widths, in the unit of the target.
        distance: cost / target - 1, negative below the target.
    """

    point: Any
    scale: float
    cost: float
    distance: float


def solve(propose: Callable[[float], Hashable], cost: Callable[[Any], float], target: float) -> Candidate:
    """Search the scales 0 < scale <= 1; return the candidate `propose(scale)` of all tried that is nearest the target.

    Widths grow with the scale in steps, and the cost roughly with its square. So the search alternates a secant step
    in the root of the cost with a bisection. It stops within 0.4 % of the target, or when the next smaller and the next
    larger scale tried differ by 0.1 %. If scale 1 costs no more than the target, it is the answer.

    Args:
        propose: scale -> widths.
        cost: widths -> their cost, in the unit of the target.
    """
    costs: dict[Hashable, float] = {}

    def at(scale: float) -> Candidate:
        point = propose(scale)
        if point not in costs:
            costs[point] = cost(point)
        return Candidate(point, scale, costs[point], costs[point] / target - 1)

    low, high = Candidate(None, 0.0, 0.0, -1.0), at(1.0)
    best, halve = high, False
    while high.cost > target and abs(best.distance) > _ENOUGH and high.scale - low.scale > _FINEST * high.scale:
        middle = at(_between(low, high, target, halve))
        best = min(best, middle, key=_distance)
        low, high = (middle, high) if middle.cost <= target else (low, middle)
        halve = not halve
    return best


def refine(
    start: Candidate,
    neighbours: Callable[[Any], Iterable[Hashable]],
    cost: Callable[[Any], float],
    target: float,
    tolerance: float,
) -> Candidate:
    """Improve a candidate by best-first search; return the nearest to the target of all points tried.

    The search stops when |distance| is within the tolerance, when 8 expansions in a row got no nearer, or when no
    points are left.

    Args:
        neighbours: point -> the points to try next.
        cost: point -> its cost, in the unit of the target.
    """
    waiting, seen, best, idle = [start], {start.point}, start, 0
    while abs(best.distance) > tolerance and waiting and idle < _PATIENCE:
        current = min(waiting, key=_distance)
        waiting.remove(current)
        for point in neighbours(current.point):
            if point not in seen:
                seen.add(point)
                new_cost = cost(point)
                waiting.append(Candidate(point, start.scale, new_cost, new_cost / target - 1))
        nearest = min([best, *waiting], key=_distance)
        best, idle = nearest, 0 if nearest is not best else idle + 1
    return best


def _distance(candidate: Candidate) -> float:
    return abs(candidate.distance)


def _between(low: Candidate, high: Candidate, target: float, halve: bool) -> float:
    """Return the next scale to try: the middle of the bracket if `halve`, else a secant step in the root of the cost.

    The secant step stays 2 % of the bracket away from its ends.
    """
    share = 0.5
    if not halve:
        rise = math.sqrt(high.cost) - math.sqrt(low.cost)
        share = min(max((math.sqrt(target) - math.sqrt(low.cost)) / rise, 0.02), 0.98)
    return low.scale + share * (high.scale - low.scale)
