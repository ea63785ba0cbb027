"""Narrowing rules for layers and operations that have no rule of their own.

Without weights: widths pass through entry by entry, as in a sum, or axis by axis, as in pooling. With weights: the
layer's config must name the width of its output.
"""

from collections.abc import Sequence

import keras

from dico_tf.divide.networks.operation_rules import OPERATIONS
from dico_tf.divide.networks.width_tracing import Axes, SymbolicCall, constant, narrows
from dico_tf.divide.networks.widths import Axis, fixed, freeze, join

MAKES = ("filters", "units", "output_dim", "features", "out_channels")  # config keys of an output's width
KEEPS = ("projection_dim", "channels", "dim", "width", "embed_dim", "hidden_size")  # may also be the input's width


@narrows(keras.layers.Layer)
def layer(call: SymbolicCall):
    """Pass widths through a layer without weights; narrow one with weights by a key of its config."""
    if isinstance(call.operation, keras.layers.Lambda):
        return unchanged(call) or call.refuse("it runs code that may depend on widths")
    return by_config(call) if call.operation.weights else follow(call)


@narrows(keras.Operation)
def operation(call: SymbolicCall):
    return unchanged(call) or OPERATIONS.get(type(call.operation).__name__, follow)(call)


def unchanged(call: SymbolicCall) -> list[Axes] | None:
    """Return outputs that keep their sizes if all inputs do, else None."""
    return None if any(x.free for x in call.inputs) else [constant(shape) for shape in call.shapes]


def follow(call: SymbolicCall) -> list[Axes]:
    """Pass widths on entry by entry, as in a sum, or axis by axis, as in pooling."""
    known = unchanged(call)
    if known is not None:
        return known
    if len(call.shapes) == 1:
        axes = entry_by_entry(call) or axis_by_axis(call)
        if axes is not None:
            return [axes]
    call.refuse("it has no rule for an axis whose width changes")


def entry_by_entry(call: SymbolicCall) -> Axes | None:
    """Return the axes of operands that are broadcast against each other; None if the output is not their broadcast."""
    shape = call.shapes[0]
    operands = [list(x.axes[1:]) for x in call.inputs]
    for leaf in keras.tree.flatten((call.args, call.kwargs)):
        if hasattr(leaf, "shape") and not isinstance(leaf, Axes):
            sizes = tuple(leaf.shape)[1:] if len(leaf.shape) == len(shape) else tuple(leaf.shape)
            operands.append([fixed(size) for size in sizes])
    if max(len(x) for x in operands) != len(shape) - 1:
        return None
    columns = [[x[-n] for x in operands if len(x) >= n] for n in range(len(shape) - 1, 0, -1)]
    if any(_broadcast(column) != {size} - {1} for column, size in zip(columns, shape[1:], strict=True)):
        return None
    return Axes((fixed(shape[0]), *map(_joined, columns)))


def _broadcast(column: Sequence[Axis]) -> set:
    return {axis.size for axis in column} - {1}


def _joined(column: Sequence[Axis]) -> Axis:
    """Make the axes that are broadcast against each other equally wide and return one of them."""
    first, *others = [axis for axis in column if axis.size != 1] or column[:1]
    for other in others:
        join(first, other)
    return first


def axis_by_axis(call: SymbolicCall) -> Axes | None:
    """Return the axes of the only input if every free one keeps its place and size, else None."""
    x, shape = call.inputs[0], call.shapes[0]
    if len(call.inputs) > 1 or len(x) != len(shape):
        return None
    if any(axis.free and axis.size != size for axis, size in zip(x.axes, shape, strict=True)):
        return None
    return Axes(tuple(axis if axis.free else fixed(size) for axis, size in zip(x.axes, shape, strict=True)))


def by_config(call: SymbolicCall) -> Axes:
    """Narrow the last axis of the output by the config key that holds its width."""
    x, shape, config = call.inputs[0], call.shapes[0], call.config
    key = next((key for key in (*MAKES, *KEEPS) if type(config.get(key)) is int and config[key] == shape[-1]), None)
    if key is None or len(call.shapes) > 1:
        call.refuse("it has weights, and its config does not name the width of its output")
    inside = [(axis, size) for axis, size in zip(x.axes[1:-1], shape[1:-1], strict=False)]
    if any(axis.free for axis in x.axes[:-1]) or len(x) != len(shape) or len(call.inputs) > 1:
        call.refuse("it has weights, and changes more than the last axis of one input")
    same = x[-1].size == shape[-1] and (x[-1].free or key in KEEPS)
    width = x[-1] if same else call.width(key)
    call.set(**{key: width})
    return Axes((fixed(shape[0]), *(fixed(size) for _, size in inside), width))


def freeze_axes(call: SymbolicCall, axes: Sequence[int]) -> None:
    """Keep the sizes of these axes of the inputs, for layers that hold a constant for each channel."""
    for x in call.inputs:
        for index in axes:
            freeze(x[index])
