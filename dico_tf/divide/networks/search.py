"""The widths at which a network costs what it should."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence

from dico_tf.divide.budget import Found, solve
from dico_tf.divide.networks.widths import Width

Point = tuple[int, ...]
Price = Callable[[Point], float]

_FEW = 4096  # points: all are priced
_PAIRED = 12  # widths: their pairs are tried


def search(widths: Sequence[Width], price: Price, target: float, tolerance: float) -> Found:
    """The first within `tolerance` of the target, else the nearest, of these:

    all widths at one scale on a grid of 4 channels; some of them a step wider than the rest; both on a grid of single
    channels; all points there are, if they are few, else those a channel away while that comes nearer.
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
    """Of few points the most even one within the tolerance, or the nearest. Of many, the best of the neighbours, then
    of its neighbours, until none is nearer.
    """
    sizes = [width.size for width in widths]

    def priced(points: Iterable[Point]) -> Iterator[Found]:
        for point in points:
            cost = price(point)
            yield Found(point, found.scale, cost, cost / target - 1)

    def uneven(other: Found) -> tuple[float, float]:
        shares = [math.log(now / (size * found.scale)) for now, size in zip(other.point, sizes, strict=True)]
        return max(_distance(other), tolerance), sum(map(abs, shares))

    if math.prod(sizes) <= _FEW:
        return min(priced(itertools.product(*(range(1, size + 1) for size in sizes))), key=uneven, default=found)
    while _distance(found) > tolerance:
        best = min(priced(_neighbours(found.point, sizes)), key=_distance, default=found)
        if _distance(best) >= _distance(found):
            break
        found = best
    return found


def _neighbours(point: Point, sizes: Sequence[int]) -> Iterator[Point]:
    """A channel more or less in one width; where they are not many, in two of them."""
    places = range(len(point))
    moved = [(n, step) for n in places for step in (-1, 1)]
    pairs = itertools.combinations(moved, 2) if len(point) <= _PAIRED else ()
    for moves in (*((move,) for move in moved), *pairs):
        new = [size + sum(step for n, step in moves if n == place) for place, size in zip(places, point, strict=True)]
        if all(1 <= now <= size for now, size in zip(new, sizes, strict=True)):
            yield tuple(new)
