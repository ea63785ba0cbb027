"""Narrowing rules of keras.ops operations, registered by class name because the classes are not public.

Elementwise operations, such as sums, need no rule.
"""

from collections.abc import Callable

from dico_tf.divide.networks.cost import labels
from dico_tf.divide.networks.reshaping import ReshapeError, reshaped
from dico_tf.divide.networks.width_tracing import Axes, SymbolicCall
from dico_tf.divide.networks.widths import Axis, cut, fixed, join, side_by_side

OPERATIONS: dict[str, Callable[[SymbolicCall], Axes | list[Axes]]] = {}


def named(*names: str):
    """Return a decorator that registers a rule for operations whose classes have these names."""

    def register(rule):
        OPERATIONS.update(dict.fromkeys(names, rule))
        return rule

    return register


def sizes(axes) -> tuple:
    """Return a tuple for `call.set`: the axes themselves, with -1 in place of an axis of open size."""
    return tuple(-1 if axis.size is None else axis for axis in axes)


@named("Reshape")
def reshape(call: SymbolicCall) -> Axes:
    axes = reshaped_axes(call)
    call.set(newshape=(-1, *sizes(axes)))
    return Axes((call.inputs[0][0], *axes))


def reshaped_axes(call: SymbolicCall) -> list[Axis]:
    """Return the axes of a reshape's output, without the batch; refuse a reshape that the widths cannot follow."""
    x, shape = call.inputs[0], call.shapes[0]
    try:
        return reshaped(x.axes[1:], shape[1:])
    except ReshapeError as error:
        call.refuse(f"it reshapes {x.shape} to {shape}: {error}")


def reordered(x: Axes, order) -> Axes:
    return Axes(tuple(x[index] for index in order))


@named("Transpose")
def transpose(call: SymbolicCall) -> Axes:
    x, axes = call.inputs[0], call.operation.axes
    return reordered(x, range(len(x) - 1, -1, -1) if axes is None else axes)


@named("Swapaxes")
def swap(call: SymbolicCall) -> Axes:
    x, order = call.inputs[0], list(range(len(call.inputs[0])))
    a, b = call.operation.axis1, call.operation.axis2
    order[a], order[b] = order[b], order[a]
    return reordered(x, order)


@named("Squeeze", "ExpandDims", "Mean", "Sum", "Max", "Min", "Prod", "Std", "Var", "Amax", "Amin", "All", "Any")
def rank(call: SymbolicCall) -> Axes:
    """Remove axes, insert them, or reduce them to size 1; the others keep their order and width."""
    x, shape = call.inputs[0], call.shapes[0]
    axis = call.operation.axis
    axes = range(len(x)) if axis is None else [axis] if isinstance(axis, int) else axis
    if type(call.operation).__name__ == "ExpandDims":
        inserted = {axis % len(shape) for axis in axes}
        rest = iter(x.axes)
        return Axes(tuple(fixed(1) if n in inserted else next(rest) for n in range(len(shape))))
    if type(call.operation).__name__ == "Squeeze" and axis is None:
        axes = [n for n, size in enumerate(x.shape) if size == 1]
    gone = {axis % len(x) for axis in axes}
    if len(shape) == len(x):
        return Axes(tuple(fixed(1) if n in gone else axis for n, axis in enumerate(x.axes)))
    return Axes(tuple(axis for n, axis in enumerate(x.axes) if n not in gone))


def concatenated(call: SymbolicCall, axis: int) -> Axes:
    """Put inputs side by side along one axis; make their other axes equally wide."""
    first, *others = call.inputs
    for other in others:
        for n in range(len(first)):
            if n != axis % len(first):
                join(first[n], other[n])
    known = None not in [x[axis].size for x in call.inputs]
    return first.but(axis, side_by_side([x[axis] for x in call.inputs]) if known else fixed(None))


@named("Concatenate")
def concatenate(call: SymbolicCall) -> Axes:
    return concatenated(call, call.operation.axis)


@named("Split")
def split(call: SymbolicCall) -> list[Axes]:
    """Split an axis into pieces; the split points move with the widths, and equal pieces may become unequal."""
    x, axis = call.inputs[0], call.operation.axis
    if not x[axis].free:  # another axis may be
        return [x.but(axis, fixed(shape[axis])) for shape in call.shapes]
    pieces = cut(x[axis], [shape[axis] for shape in call.shapes])
    call.set(indices_or_sections=tuple(side_by_side(pieces[:n]) for n in range(1, len(pieces))))
    return [x.but(axis, piece) for piece in pieces]


@named("GetItem")
def item(call: SymbolicCall) -> Axes:
    """Index or slice (x[key]); the bounds of slices move with the widths."""
    x, key = call.inputs[0], call.argument("key", 1)
    keys = list(key) if isinstance(key, tuple | list) else [key]
    missing = len(x) - sum(k is not None and k is not Ellipsis for k in keys)
    place = keys.index(Ellipsis) if Ellipsis in keys else len(keys)
    keys[place : place + 1] = [slice(None)] * missing
    rest, axes, written = iter(x.axes), [], []
    for k in keys:
        axis = fixed(1) if k is None else next(rest)
        piece, bounds = _sliced(call, axis, k) if isinstance(k, slice) else (axis, k)
        if isinstance(k, int) and axis.free:
            call.refuse(f"it selects entry {k} of an axis of {axis.size} whose width may change")
        axes += [] if isinstance(k, int) else [piece]
        written.append(bounds)
    call.set(key=tuple(written))
    return Axes(tuple(axes))


def _sliced(call: SymbolicCall, axis: Axis, bounds: slice) -> tuple[Axis, slice]:
    """Return the sliced axis, and the slice; if the axis is free, the bounds of the slice are axes, too."""
    if bounds == slice(None):
        return axis, bounds
    if not axis.free:
        known = axis.size is not None
        return fixed(len(range(*bounds.indices(axis.size))) if known else None), bounds
    start, stop, stride = bounds.indices(axis.size)
    if stride != 1:
        call.refuse(f"it slices an axis of {axis.size} whose width may change with the step {stride}; expected 1")
    before, piece, _ = cut(axis, [start, stop - start, axis.size - stop])
    return piece, slice(before, side_by_side([before, piece]))


@named("Matmul")
def matmul(call: SymbolicCall) -> Axes:
    """Make the contracted axes k equally wide: [..., n, k] x [..., k, m] -> [..., n, m]."""
    if len(call.inputs) < 2:
        call.refuse("it multiplies by a constant matrix")
    a, b = call.inputs
    if min(len(a), len(b)) < 3:
        call.refuse(f"expected two tensors of at least three axes with the batch, got {a.shape} and {b.shape}")
    join(a[-1], b[-2])
    shape = call.shapes[0]
    axes = [fixed(size) for size in shape[:-2]]
    for x in (a, b):
        for n in range(2, len(x)):
            if x.axes[-n - 1].free or x.axes[-n - 1].size == shape[-n - 1]:
                axes[-n + 1] = x.axes[-n - 1]
    return Axes((*axes, a[-2], b[-1]))


@named("Einsum")
def einsum(call: SymbolicCall) -> Axes:
    """Make all axes that have one label equally wide."""
    operands, result = labels(call.operation.subscripts, [x.shape for x in call.inputs])
    if len(operands) > len(call.inputs):
        call.refuse("it multiplies by a constant")
    axes: dict[str, Axis] = {}
    for operand, x in zip(operands, call.inputs, strict=True):
        for label, axis in zip(operand, x.axes, strict=True):
            join(axes.setdefault(label, axis), axis)
    return Axes(tuple(axes[label] for label in result))


@named("BroadcastTo", "Tile", "Repeat", "Stack")
def copies(call: SymbolicCall):
    call.refuse("it repeats or stacks a tensor whose widths may change")
