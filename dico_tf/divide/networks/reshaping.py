"""Axes of a tensor after a reshape, which merges and splits them."""

import math
from collections.abc import Sequence

from dico_tf.divide.networks.widths import Axis, evenly, fixed


class ReshapeError(Exception):
    """Free widths cannot pass a reshape; the message is the reason, without the shapes."""


_OPEN = "an axis whose width may change is reshaped together with one of open size (give keras.Input every size)"


def merged(axes: Sequence[Axis]) -> Axis:
    """Return several axes merged into one.

    Raises ReshapeError if two are free, or if one is free and the size of another is open.
    """
    if None in [axis.size for axis in axes]:
        if any(axis.free for axis in axes):
            raise ReshapeError(_OPEN)
        return fixed(None)
    free = [n for n, axis in enumerate(axes) if axis.free]
    if len(free) > 1:
        raise ReshapeError("two axes whose widths may change are merged")
    if not free:
        return fixed(math.prod(axis.size for axis in axes))
    before, after = (math.prod(axis.size for axis in part) for part in (axes[: free[0]], axes[free[0] + 1 :]))
    return axes[free[0]].each(after).repeated(before)


def split(axis: Axis, sizes: Sequence[int]) -> list[Axis]:
    """Split an axis into axes of these sizes. If it is free, the last of them may be free; the others are fixed."""
    if not axis.free:
        return [fixed(size) for size in sizes]
    return [*(fixed(size) for size in sizes[:-1]), evenly(axis, math.prod(sizes[:-1]))]


def reshaped(axes: Sequence[Axis], shape: Sequence[int | None]) -> list[Axis]:
    """Return the axes after a reshape from `axes` to `shape`, both without the batch.

    Raises ReshapeError if free axes cannot pass the reshape.
    """
    before, after = list(axes), list(shape)
    head: list[Axis] = []
    tail: list[Axis] = []
    while before and after and before[0].size == after[0]:
        head.append(before.pop(0))
        after.pop(0)
    while before and after and before[-1].size == after[-1]:
        tail.insert(0, before.pop())
        after.pop()
    return head + _groups(before, after) + tail


def _groups(axes: list[Axis], shape: list[int | None]) -> list[Axis]:
    """Reshape group by group; a group is the fewest axes whose sizes have the same product before and after."""
    if not any(axis.free for axis in axes):
        return [fixed(size) for size in shape]
    sizes = [axis.size for axis in axes]
    if None in sizes or None in shape or math.prod(sizes) != math.prod(shape):
        raise ReshapeError(_OPEN)
    out: list[Axis] = []
    while axes or shape:
        i, j = 1 if axes else 0, 1 if shape else 0
        while (a := math.prod(axis.size for axis in axes[:i])) != (b := math.prod(shape[:j])):
            i, j = (i + 1, j) if a < b else (i, j + 1)
        out += _group(axes[:i], shape[:j])
        axes, shape = axes[i:], shape[j:]
    return out


def _group(axes: list[Axis], sizes: list[int]) -> list[Axis]:
    """Reshape one group of axes: merge them, then split the result into `sizes`.

    Axes of size 1 are removed before; those that `sizes` asks for are inserted after.
    """
    one = merged([axis for axis in axes if axis.size != 1])
    parts = iter(split(one, [size for size in sizes if size != 1]) if math.prod(sizes) > 1 else [])
    return [fixed(1) if size == 1 else next(parts) for size in sizes]
