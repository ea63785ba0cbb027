"""Narrowing rules for layers and operations that have no rule of their own.

Without weights: widths pass through elementwise, as in a sum, or axis by axis, as in pooling. With weights: the
layer's config must name the width of its output. Anything else is refused.
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
    """Pass widths through a layer without weights; narrow one with weights by a key of its config.

    Refuse a Lambda if a width of its input may change.
    """
    if isinstance(call.operation, keras.layers.Lambda):
        return unchanged(call) or call.refuse("it runs code that may depend on widths")
    return by_config(call) if call.operation.weights else follow(call)


@narrows(keras.Operation)
def operation(call: SymbolicCall):
    return unchanged(call) or OPERATIONS.get(type(call.operation).__name__, follow)(call)


def unchanged(call: SymbolicCall) -> list[Axes] | None:
    """Return outputs of constant sizes if no width of the inputs may change, else None."""
    return None if any(x.free for x in call.inputs) else [constant(shape) for shape in call.shapes]


def follow(call: SymbolicCall) -> list[Axes]:
    """Return the outputs' axes: widths pass elementwise, as in a sum, or axis by axis, as in pooling.

    Refuse a call where neither fits.
    """
    known = unchanged(call)
    if known is not None:
        return known
    if len(call.shapes) == 1:
        axes = entry_by_entry(call) or axis_by_axis(call)
        if axes is not None:
            return [axes]
    call.refuse("it has no rule for an axis whose width changes")


def entry_by_entry(call: SymbolicCall) -> Axes | None:
    """Return the output's axes if its shape is that of the operands broadcast against each other, else None.

    Axes that are broadcast against each other become equally wide.
    """
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
    """Make the axes equally wide, except those of size 1, and return one of them."""
    first, *others = [axis for axis in column if axis.size != 1] or column[:1]
    for other in others:
        join(first, other)
    return first


def axis_by_axis(call: SymbolicCall) -> Axes | None:
    """Return the output's axes if there is only one input, and its free axes keep their place and size; else None."""
    x, shape = call.inputs[0], call.shapes[0]
    if len(call.inputs) > 1 or len(x) != len(shape):
        return None
    if any(axis.free and axis.size != size for axis, size in zip(x.axes, shape, strict=True)):
        return None
    return Axes(tuple(axis if axis.free else fixed(size) for axis, size in zip(x.axes, shape, strict=True)))


def by_config(call: SymbolicCall) -> Axes:
    """Narrow the last axis of the output, and with it the config key that holds its width.

    An input and output of equal width stay equally wide in every branch, if the input may be narrowed or if the key is
    one of `KEEPS`. In all other cases the output's width is chosen freely.
    """
    x, shape, config = call.inputs[0], call.shapes[0], call.config
    key = next((key for key in (*MAKES, *KEEPS) if type(config.get(key)) is int and config[key] == shape[-1]), None)
    if key is None:
        call.refuse("it has weights, and its config does not name the width of its output")
    if len(call.inputs) > 1 or len(call.shapes) > 1:
        call.refuse(f"it has weights, {len(call.inputs)} inputs and {len(call.shapes)} outputs; expected one of each")
    if len(x) != len(shape):
        call.refuse(f"it has weights, and changes the number of axes of its input: {x.shape} to {shape}")
    if any(axis.free for axis in x.axes[:-1]):
        call.refuse("it has weights, and an axis of its input other than the last may be narrowed")
    same = x[-1].size == shape[-1] and (x[-1].free or key in KEEPS)
    width = x[-1] if same else call.width(key)
    call.set(**{key: width})
    return Axes((*map(fixed, shape[:-1]), width))


def freeze_axes(call: SymbolicCall, axes: Sequence[int]) -> None:
    """Keep the sizes of these axes of all inputs: for layers that hold a constant for each channel."""
    for x in call.inputs:
        for index in axes:
            freeze(x[index])
