"""A budget solver: the scale of a network's widths at which its cost comes nearest a target."""

import dataclasses
import math
from collections.abc import Callable, Hashable, Iterable
from typing import Any

_ENOUGH = 0.004  # relative distance at which the search stops
_FINEST = 1e-3  # relative width of the bracket below which no grid of channels has another point
_PATIENCE = 8  # points that lead to none nearer, after which the nearest is taken


@dataclasses.dataclass(frozen=True)
class Found:
    """A legal point, its scale, its cost, and how far that is from the target: cost / target - 1."""

    point: Any
    scale: float
    cost: float
    distance: float


def solve(propose: Callable[[float], Hashable], cost: Callable[[Any], float], target: float) -> Found:
    """The point `propose(scale)`, 0 < scale <= 1, whose cost is nearest the target.

    Points grow with the scale in steps, the cost roughly with its square: a secant in the root of the cost, which
    halves the bracket every second time, until the bracket is as narrow as no grid of channels.
    """
    costs: dict[Hashable, float] = {}

    def at(scale: float) -> Found:
        point = propose(scale)
        if point not in costs:
            costs[point] = cost(point)
        return Found(point, scale, costs[point], costs[point] / target - 1)

    low, high = Found(None, 0.0, 0.0, -1.0), at(1.0)
    best, halve = high, False
    while high.cost > target and abs(best.distance) > _ENOUGH and high.scale - low.scale > _FINEST * high.scale:
        middle = at(_between(low, high, target, halve))
        best = min(best, middle, key=_distance)
        low, high = (middle, high) if middle.cost <= target else (low, middle)
        halve = not halve
    return best


def refine(
    found: Found,
    neighbours: Callable[[Any], Iterable[Hashable]],
    cost: Callable[[Any], float],
    target: float,
    tolerance: float,
) -> Found:
    """Best first: from the nearest point at hand to its neighbours, until one is within the tolerance, or several in a
    row led to none nearer.
    """
    waiting, seen, best, idle = [found], {found.point}, found, 0
    while abs(best.distance) > tolerance and waiting and idle < _PATIENCE:
        here = min(waiting, key=_distance)
        waiting.remove(here)
        for point in neighbours(here.point):
            if point not in seen:
                seen.add(point)
                paid = cost(point)
                waiting.append(Found(point, found.scale, paid, paid / target - 1))
        nearest = min([best, *waiting], key=_distance)
        best, idle = nearest, 0 if nearest is not best else idle + 1
    return best


def _distance(found: Found) -> float:
    return abs(found.distance)


def _between(low: Found, high: Found, target: float, halve: bool) -> float:
    """Where the root of the cost would reach the target's, kept inside the bracket; or its middle."""
    share = 0.5
    if not halve:
        rise = math.sqrt(high.cost) - math.sqrt(low.cost)
        share = min(max((math.sqrt(target) - math.sqrt(low.cost)) / rise, 0.02), 0.98)
    return low.scale + share * (high.scale - low.scale)
