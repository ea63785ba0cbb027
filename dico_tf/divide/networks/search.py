"""The widths at which a network costs what it should."""

import dataclasses
from collections.abc import Callable, Sequence

from dico_tf.divide.budget import Found, solve
from dico_tf.divide.networks.widths import Width

Point = tuple[int, ...]
Price = Callable[[Point], float]


def search(widths: Sequence[Width], price: Price, target: float, tolerance: float) -> Found:
    """The first within `tolerance` of the target, else the nearest, of these:

    all widths at one scale on a grid of 4 channels; some of them a step wider than the rest; both on a grid of single
    channels; and single channels added or taken while that comes nearer.
    """
    best: Found | None = None
    for fine in (False, True):

        def scaled(scale: float, fine: bool = fine) -> Point:
            return tuple(width.narrowed(scale, fine) for width in widths)

        found = solve(scaled, price, target)
        best = found if best is None else min(best, found, key=_distance)
        if _distance(best) > tolerance:
            best = min(best, _mixed(found, scaled, price, target), key=_distance)
        if _distance(best) <= tolerance:
            return best
    return _walked(best, widths, price, target, tolerance)


def _distance(found: Found) -> float:
    return abs(found.distance)


def _mixed(found: Found, scaled: Callable[[float], Point], price: Price, target: float) -> Found:
    """Between the nearest point of a grid and the next beyond the target: some widths of one, the rest of the other."""
    above = found.cost > target
    scale, step, other = found.scale, -1e-3 if above else 1e-3, found.point
    while 0 < scale + step <= 1 and (other == found.point or (price(other) > target) == above):
        scale += step
        step *= 1.3
        other = scaled(scale)
    low, high = (other, found.point) if above else (found.point, other)

    def mixture(share: float) -> Point:
        count = round(share * len(low))
        return (*high[:count], *low[count:])

    return dataclasses.replace(solve(mixture, price, target), scale=found.scale)


def _walked(found: Found, widths: Sequence[Width], price: Price, target: float, tolerance: float) -> Found:
    """The best of all points a channel away, then of those, until none is nearer."""
    while _distance(found) > tolerance:
        near = [
            (*found.point[:n], size + step, *found.point[n + 1 :])
            for n, size in enumerate(found.point)
            for step in (-1, 1)
            if 1 <= size + step <= widths[n].size
        ]
        costs = [(point, price(point)) for point in near]
        points = [Found(point, found.scale, cost, cost / target - 1) for point, cost in costs]
        best = min(points, key=_distance, default=found)
        if _distance(best) >= _distance(found):
            break
        found = best
    return found
