"""How what has no rule of its own passes widths on: entry by entry, position by position, or by a width it names."""

from collections.abc import Sequence

import keras

from dico_tf.divide.networks.operation_rules import OPERATIONS
from dico_tf.divide.networks.width_tracing import Axes, Step, constant, narrows
from dico_tf.divide.networks.widths import Axis, fixed, freeze, join

MAKES = ("filters", "units", "output_dim", "features", "out_channels")  # config keys of a layer's own width
KEEPS = ("projection_dim", "channels", "dim", "width", "embed_dim", "hidden_size")  # often that of its input, too


@narrows(keras.layers.Layer)
def layer(step: Step):
    """Weightless layers are followed; others need a rule, or a width that their config names."""
    if isinstance(step.operation, keras.layers.Lambda):
        return untouched(step) or step.refuse("it runs code that does not say what it needs")
    return by_config(step) if step.operation.weights else follow(step)


@narrows(keras.Operation)
def operation(step: Step):
    return untouched(step) or OPERATIONS.get(type(step.operation).__name__, follow)(step)


def untouched(step: Step) -> list[Axes] | None:
    """Outputs that keep their sizes, where all inputs do."""
    return None if any(x.free for x in step.inputs) else [constant(shape) for shape in step.shapes]


def follow(step: Step) -> list[Axes]:
    """Entry by entry as in a sum, or with every axis that can narrow as it came, as in pooling."""
    known = untouched(step)
    if known is not None:
        return known
    if len(step.shapes) == 1:
        found = entry_by_entry(step) or axis_by_axis(step)
        if found is not None:
            return [found]
    step.refuse("it changes an axis that narrows, in a way that is not known")


def entry_by_entry(step: Step) -> Axes | None:
    """Operands broadcast against each other from their last axes."""
    shape = step.shapes[0]
    operands = [list(x.axes[1:]) for x in step.inputs]
    for leaf in keras.tree.flatten((step.args, step.kwargs)):
        if hasattr(leaf, "shape") and not isinstance(leaf, Axes):
            sizes = tuple(leaf.shape)[1:] if len(leaf.shape) == len(shape) else tuple(leaf.shape)
            operands.append([fixed(size) for size in sizes])
    if max(len(x) for x in operands) != len(shape) - 1:
        return None
    columns = [[x[-n] for x in operands if len(x) >= n] for n in range(len(shape) - 1, 0, -1)]
    if any(_broadcast(column) != {size} - {1} for column, size in zip(columns, shape[1:], strict=True)):
        return None
    return Axes((fixed(shape[0]), *map(_together, columns)))


def _broadcast(column: Sequence[Axis]) -> set:
    return {axis.size for axis in column} - {1}


def _together(column: Sequence[Axis]) -> Axis:
    first, *others = [axis for axis in column if axis.size != 1] or column[:1]
    for other in others:
        join(first, other)
    return first


def axis_by_axis(step: Step) -> Axes | None:
    """One input; axes that narrow stay where and as they are."""
    x, shape = step.inputs[0], step.shapes[0]
    if len(step.inputs) > 1 or len(x) != len(shape):
        return None
    if any(axis.free and axis.size != size for axis, size in zip(x.axes, shape, strict=True)):
        return None
    return Axes(tuple(axis if axis.free else fixed(size) for axis, size in zip(x.axes, shape, strict=True)))


def by_config(step: Step) -> Axes:
    """The last axis has the width that the config names."""
    x, shape, config = step.inputs[0], step.shapes[0], step.config
    key = next((key for key in (*MAKES, *KEEPS) if type(config.get(key)) is int and config[key] == shape[-1]), None)
    if key is None or len(step.shapes) > 1:
        step.refuse("it has weights, and its config names no width that could be changed")
    inside = [(axis, size) for axis, size in zip(x.axes[1:-1], shape[1:-1], strict=False)]
    if any(axis.free for axis in x.axes[:-1]) or len(x) != len(shape) or len(step.inputs) > 1:
        step.refuse("it has weights, and does more than change the last axis of one input")
    same = x[-1].size == shape[-1] and (x[-1].free or key in KEEPS)
    width = x[-1] if same else step.width(key)
    step.set(**{key: width})
    return Axes((fixed(shape[0]), *(fixed(size) for _, size in inside), width))


def frozen(step: Step, axes: Sequence[int]) -> None:
    """For layers that hold a constant for every channel."""
    for x in step.inputs:
        for index in axes:
            freeze(x[index])
