"""Widths (numbers of channels) of a network, and the equations between them. Imports no framework.

An `Axis` of a tensor consists of widths side by side. Tracing a network joins axes that must be equal, cuts them into
pieces, and freezes those that must keep their size. What is then still free may be chosen for a branch.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from dico_tf.divide.rules import multiple

Segments = tuple[tuple["Width", int], ...]


class Width:
    """A number of channels: free to be chosen, or fixed.

    Attributes:
        size: in the whole network; None if open.
        free: a branch may have another number. A width of 1 is never free.
        unit: channels that an axis gains if this width grows by one. If it is in several axes, the most that one gains.
        parts: the widths it consists of, each with the number of times, once it was cut or joined; else None.
    """

    __slots__ = ("free", "parts", "size", "unit")

    def __init__(self, size: int | None, free: bool, unit: int = 1):
        self.size, self.free, self.unit = size, free and size != 1, unit
        self.parts: Segments | None = None

    def narrowed(self, scale: float, fine: bool) -> int:
        """Return the width's size at a scale: scale x size, rounded to a multiple of a step; at most the size.

        A size of n makes n x `unit` channels. In channels, the step is about 4, or 2 if scale x size makes fewer
        than 16, or 1 below 8; in size, it is at least 1. The result makes at least 4 channels, or half of the whole's
        if that is less. With `fine`, the step is a size of 1, and so is the least result.
        """
        if scale >= 1:
            return self.size
        wish = scale * self.size * self.unit
        step = 1 if fine or wish < 8 else 2 if wish < 16 else 4
        least = 1 if fine else math.ceil(min(4, self.size * self.unit / 2) / self.unit)
        return min(max(multiple(scale * self.size, max(1, step // self.unit)), least), self.size)


@dataclasses.dataclass(frozen=True, eq=False)
class Axis:
    """One axis of a tensor: segments side by side. A segment (width, times) has width x times channels."""

    segments: Segments

    def roots(self) -> list[tuple[Width, int]]:
        """Return the segments with each width replaced by its parts, down to widths without parts."""
        return _roots(self.segments)

    @property
    def size(self) -> int | None:
        sizes = [(width.size, times) for width, times in self.segments]
        return None if any(size is None for size, _ in sizes) else sum(size * times for size, times in sizes)

    @property
    def free(self) -> bool:
        return any(width.free for width, _ in self.roots())

    def value(self, widths: Mapping[Width, int]) -> int | None:
        """Return the axis' size at the chosen widths; widths that are left out keep their size. None if it is open."""
        if self.size is None:
            return None
        return sum(widths.get(width, width.size) * times for width, times in self.roots())

    def each(self, times: int) -> "Axis":
        """Return an axis that has every channel `times` times: (a, b) -> (a, a, b, b)."""
        return Axis(tuple((width, n * times) for width, n in self.roots()))

    def repeated(self, times: int) -> "Axis":
        """Return an axis that has the whole axis `times` times: (a, b) -> (a, b, a, b)."""
        roots = self.roots()
        return self.each(times) if len(roots) == 1 else Axis(tuple(roots) * times)


def fixed(size: int | None) -> Axis:
    """Return an axis that has this size in every branch; None = open size."""
    return Axis(((Width(size, free=False), 1),))


def free(size: int) -> Axis:
    """Return an axis of one new width that may be chosen."""
    return Axis(((Width(size, free=True), 1),))


def side_by_side(axes: Sequence[Axis]) -> Axis:
    """Return the concatenation of axes."""
    return Axis(tuple(root for axis in axes for root in axis.roots()))


def _roots(segments: Sequence[tuple[Width, int]]) -> list[tuple[Width, int]]:
    roots: list[tuple[Width, int]] = []
    for width, times in segments:
        inner = [(width, times)]
        if width.parts is not None:
            width.parts = tuple(_roots(width.parts))  # shortens the next look-up
            inner = list(width.parts)
            inner = [(inner[0][0], inner[0][1] * times)] if len(inner) == 1 else inner * times
        for root, count in inner:
            if roots and roots[-1][0] is root:
                roots[-1] = (root, roots[-1][1] + count)
            else:
                roots.append((root, count))
    return roots


def freeze(axis: Axis) -> None:
    """Keep the axis' size in every branch."""
    for width, _ in axis.roots():
        width.free = False


def join(one: Axis, other: Axis) -> None:
    """Make two axes equal in every branch; they must be equal in the whole.

    If the size of one is unknown (None), neither may be narrowed.
    """
    if not (one.free or other.free):
        return
    if None in (one.size, other.size):
        freeze(one)
        freeze(other)
        return
    left, right = one.roots(), other.roots()
    while left and right:
        (p, m), (q, n) = left[0], right[0]
        size = min(m, n) * p.size if p is q else min(p.size * m, q.size * n)
        (head, left), (top, right) = _split(left, size), _split(right, size)
        head, top = _roots(head), _roots(top)
        if len(head) == len(top) == 1:
            _tie(head[0], top[0])
        else:  # a cut divided a width into parts, which are compared next
            left, right = head + left, top + right
        left, right = _roots(left), _roots(right)


def _tie(one: tuple[Width, int], other: tuple[Width, int]) -> None:
    """Make m a = n b in every branch, for segments (a, m) and (b, n).

    Then a = (n / g) p and b = (m / g) p, with a new width p and g = gcd(m, n).
    """
    (a, m), (b, n) = one, other
    if a is b:
        return
    g = math.gcd(m, n)
    both = Width(a.size * g // n, a.free and b.free, max(a.unit * n, b.unit * m) // g)
    a.parts, b.parts = ((both, n // g),), ((both, m // g),)


def _split(segments: list[tuple[Width, int]], at: int) -> tuple[list, list]:
    """Return the segments of the first `at` channels, and the others. A width at the cut is divided into two parts."""
    head: list[tuple[Width, int]] = []
    rest = list(segments)
    while at:
        width, times = rest.pop(0)
        whole = min(times, at // width.size)
        if whole < times:
            rest.insert(0, (width, times - whole))
        if whole:
            head.append((width, whole))
            at -= whole * width.size
        else:
            width.parts = tuple((Width(n, width.free, width.unit), 1) for n in (at, width.size - at))
            head, rest = _roots(head), _roots(rest)
    return head, rest


def cut(axis: Axis, sizes: Sequence[int]) -> list[Axis]:
    """Return consecutive pieces of an axis, which have these sizes in the whole."""
    ends = [sum(sizes[: n + 1]) for n in range(len(sizes))]
    for end in ends:  # make every cut first: a later one may change an earlier piece
        _split(axis.roots(), end)
    pieces, rest = [], axis.roots()
    for size in sizes:
        head, rest = _split(rest, size)
        pieces.append(Axis(tuple(head)))
    return pieces


def evenly(axis: Axis, count: int) -> Axis:
    """Return one of `count` equal pieces; in every branch the axis stays divisible by `count`."""
    first, *others = cut(axis, [axis.size // count] * count)
    before = [root for piece in (first, *others) for root, _ in piece.roots()]
    for piece in others:
        join(first, piece)
    roots = first.roots()
    if len(roots) == 1 and any(root is not roots[0][0] for root in before):
        roots[0][0].unit *= count
    return first


def groups(axis: Axis, members: int) -> Axis:
    """Return an axis whose size is the number of groups of `members` channels in the given axis.

    In every branch the given axis consists of whole groups. If a group would reach from one width into the next, the
    given axis keeps its size.
    """
    roots = axis.roots()
    if any(width.size * times % members for width, times in roots):
        freeze(axis)  # a group reaches from one width into the next
        return fixed(axis.size // members)
    needed = [(width, members // math.gcd(times, members)) for width, times in roots]
    split = next(((width, n) for width, n in needed if n > 1), None)
    if split is None:
        return Axis(tuple((width, times // members) for width, times in roots))
    width, n = split
    width.parts = ((Width(width.size // n, width.free, width.unit * n), n),)
    return groups(axis, members)
