"""Axes of a tensor after a reshape, which merges and splits them."""

import math
from collections.abc import Sequence

from dico_tf.divide.networks.widths import Axis, evenly, fixed


def merged(axes: Sequence[Axis]) -> Axis | None:
    """Return several axes merged into one; None if two are free, or one is free and the size of another is open."""
    if None in [axis.size for axis in axes]:
        return None if any(axis.free for axis in axes) else fixed(None)
    free = [n for n, axis in enumerate(axes) if axis.free]
    if len(free) > 1:
        return None
    if not free:
        return fixed(math.prod(axis.size for axis in axes))
    before, after = (math.prod(axis.size for axis in part) for part in (axes[: free[0]], axes[free[0] + 1 :]))
    return axes[free[0]].each(after).repeated(before)


def split(axis: Axis, sizes: Sequence[int]) -> list[Axis]:
    """Return one axis split into axes of these sizes; only the last of them is free."""
    if not axis.free:
        return [fixed(size) for size in sizes]
    return [*(fixed(size) for size in sizes[:-1]), evenly(axis, math.prod(sizes[:-1]))]


def reshaped(axes: Sequence[Axis], shape: Sequence[int | None]) -> list[Axis] | None:
    """Return the axes of a tensor after a reshape, without the batch; None if free widths do not fit into `shape`."""
    before, after = list(axes), list(shape)
    head: list[Axis] = []
    tail: list[Axis] = []
    while before and after and before[0].size == after[0]:
        head.append(before.pop(0))
        after.pop(0)
    while before and after and before[-1].size == after[-1]:
        tail.insert(0, before.pop())
        after.pop()
    middle = _groups(before, after)
    return None if middle is None else head + middle + tail


def _groups(axes: list[Axis], shape: list[int | None]) -> list[Axis] | None:
    """Reshape group by group; a group is the fewest axes whose sizes have the same product before and after.

    Returns None if free axes are reshaped together with open sizes, or if a group cannot be reshaped.
    """
    if not any(axis.free for axis in axes):
        return [fixed(size) for size in shape]
    if None in shape or None in [axis.size for axis in axes]:
        return None
    if math.prod(axis.size for axis in axes) != math.prod(shape):
        return None
    out: list[Axis] = []
    while axes or shape:
        i, j = 1 if axes else 0, 1 if shape else 0
        while (a := math.prod(axis.size for axis in axes[:i])) != (b := math.prod(shape[:j])):
            i, j = (i + 1, j) if a < b else (i, j + 1)
        group = _group(axes[:i], shape[:j])
        if group is None:
            return None
        out += group
        axes, shape = axes[i:], shape[j:]
    return out


def _group(axes: list[Axis], sizes: list[int]) -> list[Axis] | None:
    """Reshape one group of axes: merge them, then split the result into `sizes`; None if they cannot be merged.

    Axes of size 1 are removed before and inserted after.
    """
    one = merged([axis for axis in axes if axis.size != 1])
    if one is None:
        return None
    parts = iter(split(one, [size for size in sizes if size != 1]) if math.prod(sizes) > 1 else [])
    return [fixed(1) if size == 1 else next(parts) for size in sizes]
