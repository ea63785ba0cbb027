"""How operations of keras.ops pass widths on where that is not entry by entry; named, for Keras hides the classes."""

from collections.abc import Callable

from dico_tf.divide.networks.cost import labels
from dico_tf.divide.networks.reshaping import reshaped
from dico_tf.divide.networks.width_tracing import Axes, Step
from dico_tf.divide.networks.widths import Axis, cut, fixed, join, side_by_side

OPERATIONS: dict[str, Callable[[Step], Axes | list[Axes]]] = {}


def named(*names: str):
    def register(rule):
        OPERATIONS.update(dict.fromkeys(names, rule))
        return rule

    return register


def sizes(axes) -> tuple:
    """A shape to be written: an open size is -1."""
    return tuple(-1 if axis.size is None else axis for axis in axes)


@named("Reshape")
def reshape(step: Step) -> Axes:
    x = step.inputs[0]
    shape = step.shapes[0]
    axes = reshaped(x.axes[1:], shape[1:])
    if axes is None:
        step.refuse(f"widths do not fit from {x.shape} into {shape}")
    step.set(newshape=(-1, *sizes(axes)))
    return Axes((x[0], *axes))


def reordered(x: Axes, order) -> Axes:
    return Axes(tuple(x[index] for index in order))


@named("Transpose")
def transpose(step: Step) -> Axes:
    x, axes = step.inputs[0], step.operation.axes
    return reordered(x, range(len(x) - 1, -1, -1) if axes is None else axes)


@named("Swapaxes")
def swap(step: Step) -> Axes:
    x, order = step.inputs[0], list(range(len(step.inputs[0])))
    a, b = step.operation.axis1, step.operation.axis2
    order[a], order[b] = order[b], order[a]
    return reordered(x, order)


@named("Squeeze", "ExpandDims", "Mean", "Sum", "Max", "Min", "Prod", "Std", "Var", "Amax", "Amin", "All", "Any")
def rank(step: Step) -> Axes:
    """Axes leave or come; the others keep their order."""
    x, shape = step.inputs[0], step.shapes[0]
    given = step.operation.axis
    axes = range(len(x)) if given is None else [given] if isinstance(given, int) else given
    if type(step.operation).__name__ == "ExpandDims":
        inserted = {axis % len(shape) for axis in axes}
        rest = iter(x.axes)
        return Axes(tuple(fixed(1) if n in inserted else next(rest) for n in range(len(shape))))
    if type(step.operation).__name__ == "Squeeze" and given is None:
        axes = [n for n, size in enumerate(x.shape) if size == 1]
    gone = {axis % len(x) for axis in axes}
    if len(shape) == len(x):
        return Axes(tuple(fixed(1) if n in gone else axis for n, axis in enumerate(x.axes)))
    return Axes(tuple(axis for n, axis in enumerate(x.axes) if n not in gone))


def concatenated(step: Step, axis: int) -> Axes:
    """Side by side along one axis, alike along the others."""
    first, *others = step.inputs
    for other in others:
        for n in range(len(first)):
            if n != axis % len(first):
                join(first[n], other[n])
    known = None not in [x[axis].size for x in step.inputs]
    return first.but(axis, side_by_side([x[axis] for x in step.inputs]) if known else fixed(None))


@named("Concatenate")
def concatenate(step: Step) -> Axes:
    return concatenated(step, step.operation.axis)


@named("Split")
def split(step: Step) -> list[Axes]:
    """Pieces as wide as they come out; the cuts move with the widths."""
    x, axis = step.inputs[0], step.operation.axis
    if not x[axis].free:  # other axes may be
        return [x.but(axis, fixed(shape[axis])) for shape in step.shapes]
    pieces = cut(x[axis], [shape[axis] for shape in step.shapes])
    step.set(indices_or_sections=tuple(side_by_side(pieces[:n]) for n in range(1, len(pieces))))
    return [x.but(axis, piece) for piece in pieces]


@named("GetItem")
def item(step: Step) -> Axes:
    """x[key]: slices of an axis that narrows move their ends with its widths."""
    x, key = step.inputs[0], step.argument("key", 1)
    keys = list(key) if isinstance(key, tuple | list) else [key]
    missing = len(x) - sum(k is not None and k is not Ellipsis for k in keys)
    place = keys.index(Ellipsis) if Ellipsis in keys else len(keys)
    keys[place : place + 1] = [slice(None)] * missing
    rest, axes, written = iter(x.axes), [], []
    for k in keys:
        axis = fixed(1) if k is None else next(rest)
        piece, bounds = _sliced(step, axis, k) if isinstance(k, slice) else (axis, k)
        if (isinstance(k, int) and axis.free) or not isinstance(k, int | slice | None):
            step.refuse(f"it picks {k!r} from an axis of {axis.size} that narrows")
        axes += [] if isinstance(k, int) else [piece]
        written.append(bounds)
    step.set(key=tuple(written))
    return Axes(tuple(axes))


def _sliced(step: Step, axis: Axis, bounds: slice) -> tuple[Axis, slice]:
    if bounds == slice(None):
        return axis, bounds
    if not axis.free:
        known = axis.size is not None
        return fixed(len(range(*bounds.indices(axis.size))) if known else None), bounds
    start, stop, stride = bounds.indices(axis.size)
    if stride != 1:
        step.refuse(f"it takes every {stride}th of {axis.size} channels")
    before, piece, _ = cut(axis, [start, stop - start, axis.size - stop])
    return piece, slice(before, side_by_side([before, piece]))


@named("Matmul")
def matmul(step: Step) -> Axes:
    """[..., n, k] x [..., k, m] -> [..., n, m]"""
    if len(step.inputs) < 2 or min(map(len, step.inputs)) < 3:
        step.refuse("it multiplies with a constant matrix")
    a, b = step.inputs
    join(a[-1], b[-2])
    shape = step.shapes[0]
    axes = [fixed(size) for size in shape[:-2]]
    for x in (a, b):
        for n in range(2, len(x)):
            if x.axes[-n - 1].free or x.axes[-n - 1].size == shape[-n - 1]:
                axes[-n + 1] = x.axes[-n - 1]
    return Axes((*axes, a[-2], b[-1]))


@named("Einsum")
def einsum(step: Step) -> Axes:
    """A label is one size, wherever it stands."""
    operands, result = labels(step.operation.subscripts, [x.shape for x in step.inputs])
    if len(operands) > len(step.inputs):
        step.refuse("it multiplies with a constant")
    found: dict[str, Axis] = {}
    for operand, x in zip(operands, step.inputs, strict=True):
        for label, axis in zip(operand, x.axes, strict=True):
            join(found.setdefault(label, axis), axis)
    return Axes(tuple(found[label] for label in result))


@named("BroadcastTo", "Tile", "Repeat", "Stack")
def copies(step: Step):
    step.refuse("it copies axes that narrow")
