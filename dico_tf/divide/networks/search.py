"""Search for the widths at which a network has a given cost."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence

from dico_tf.divide.budget import Candidate, solve
from dico_tf.divide.networks.widths import Width

Point = tuple[int, ...]
CostOf = Callable[[Point], float]

_FEW_POINTS = 4096  # up to here every point is tried
_FEW_WIDTHS = 12  # up to here pairs of widths are changed, too


def search(widths: Sequence[Width], cost_of: CostOf, target: float, tolerance: float) -> Candidate:
    """Return a candidate within `tolerance` of the target, else the nearest one.

    The search ends at the first step that has a candidate within the tolerance:

    1. all widths scaled by one factor and rounded to multiples of 4 channels (2 below 16, 1 below 8), then mixtures of
       two neighbouring points of this kind;
    2. the same rounded to single channels;
    3. every point if there are at most 4096, of which the widths most nearly in proportion are preferred; else moves by
       one channel in one or two widths, as long as the cost gets nearer.

    Args:
        cost_of: point -> cost; a point is the chosen sizes in the order of `widths`.
        tolerance: largest |cost / target - 1|.
    """
    best: Candidate | None = None
    for fine in (False, True):

        def scaled(scale: float, fine: bool = fine) -> Point:
            return tuple(width.narrowed(scale, fine) for width in widths)

        nearest = solve(scaled, cost_of, target)
        best = nearest if best is None else min(best, nearest, key=_distance)
        if _distance(best) > tolerance:
            best = min(best, _mixed(nearest, scaled, cost_of, target), key=_distance)
        if _distance(best) <= tolerance:
            return best
    return _single_channels(best, widths, cost_of, target, tolerance)


def _distance(candidate: Candidate) -> float:
    return abs(candidate.distance)


def _mixed(nearest: Candidate, scaled: Callable[[float], Point], cost_of: CostOf, target: float) -> Candidate:
    """Return the mixture nearest to the target of two neighbouring grid points, which cost more and less than it.

    The first widths of a mixture are those of the wider point, the others those of the narrower one.
    """
    above = nearest.cost > target
    scale, step, other = nearest.scale, -1e-3 if above else 1e-3, nearest.point
    while 0 < scale + step <= 1 and (other == nearest.point or (cost_of(other) > target) == above):
        scale += step
        step *= 1.3
        other = scaled(scale)
    low, high = (other, nearest.point) if above else (nearest.point, other)

    def mixture(share: float) -> Point:
        count = round(share * len(low))
        return (*high[:count], *low[count:])

    return dataclasses.replace(solve(mixture, cost_of, target), scale=nearest.scale)


def _single_channels(
    start: Candidate, widths: Sequence[Width], cost_of: CostOf, target: float, tolerance: float
) -> Candidate:
    """Return the best of all points if there are at most 4096, else the end of a steepest descent from `start`.

    The best point is the one within the tolerance whose widths are most nearly in proportion to the whole's; if none is
    within it, the nearest to the target.
    """
    sizes = [width.size for width in widths]

    def candidates(points: Iterable[Point]) -> Iterator[Candidate]:
        for point in points:
            cost = cost_of(point)
            yield Candidate(point, start.scale, cost, cost / target - 1)

    def rank(other: Candidate) -> tuple[float, float]:
        ratios = [math.log(now / (size * start.scale)) for now, size in zip(other.point, sizes, strict=True)]
        return max(_distance(other), tolerance), sum(map(abs, ratios))

    if math.prod(sizes) <= _FEW_POINTS:
        every = itertools.product(*(range(1, size + 1) for size in sizes))
        return min(candidates(every), key=rank, default=start)
    nearest = start
    while _distance(nearest) > tolerance:
        best = min(candidates(_neighbours(nearest.point, sizes)), key=_distance, default=nearest)
        if _distance(best) >= _distance(nearest):
            break
        nearest = best
    return nearest


def _neighbours(point: Point, sizes: Sequence[int]) -> Iterator[Point]:
    """Yield the points with one channel more or less in one width and, if there are at most 12 widths, in two.

    Each width stays between 1 and its size in `sizes`.
    """
    places = range(len(point))
    moved = [(n, step) for n in places for step in (-1, 1)]
    pairs = itertools.combinations(moved, 2) if len(point) <= _FEW_WIDTHS else ()
    for moves in (*((move,) for move in moved), *pairs):
        new = [size + sum(step for n, step in moves if n == place) for place, size in zip(places, point, strict=True)]
        if all(1 <= now <= size for now, size in zip(new, sizes, strict=True)):
            yield tuple(new)
