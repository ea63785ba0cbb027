"""Narrowing rules of Keras' own layers: how each passes widths from its inputs to its outputs.

A rule sets what changes in the layer's config, and returns the axes of its outputs.
"""

import keras
import numpy as np

from dico_tf.divide.networks.cost import labels
from dico_tf.divide.networks.fallback_rules import freeze_axes
from dico_tf.divide.networks.operation_rules import concatenated, reordered, reshaped_axes, sizes
from dico_tf.divide.networks.reshaping import ReshapeError, merged
from dico_tf.divide.networks.width_tracing import Axes, SymbolicCall, narrows
from dico_tf.divide.networks.widths import Axis, evenly, fixed, freeze, groups, join

K = keras.layers


def channel_axis(layer) -> int:
    return -1 if layer.data_format == "channels_last" else 1


def image_output(call: SymbolicCall, channels: Axis) -> Axes:
    """Return the axes of a convolution's output with these channels; freeze all other axes of its first input."""
    x, channel = call.inputs[0], channel_axis(call.operation)
    for n in range(1, len(x)):
        if n != channel % len(x):
            freeze(x[n])
    return Axes(tuple(fixed(size) for size in call.shapes[0])).but(channel, channels)


@narrows(K.Conv1D, K.Conv2D, K.Conv3D)
def convolution(call: SymbolicCall) -> Axes:
    """Narrow `filters`, and return the axes of the output.

    A grouped convolution keeps its number of groups, and they get narrower. It gets fewer groups instead if its input
    may be narrowed and it has at least as many groups as input channels per group.
    """
    layer, x = call.operation, call.inputs[0][channel_axis(call.operation)]
    if layer.groups == 1:
        return image_output(call, call.width("filters"))
    members, made = x.size // layer.groups, layer.filters // layer.groups
    if x.free and layer.groups >= members:
        count = groups(x, members)
        call.set(groups=count, filters=count.each(made))
        return image_output(call, count.each(made))
    if x.free:
        evenly(x, layer.groups)
    filters = call.width("filters of a group", made).repeated(layer.groups)
    call.set(filters=filters)
    return image_output(call, filters)


@narrows(K.Conv1DTranspose, K.Conv2DTranspose, K.Conv3DTranspose, K.SeparableConv1D, K.SeparableConv2D)
def filters(call: SymbolicCall) -> Axes:
    return image_output(call, call.width("filters"))


@narrows(K.DepthwiseConv1D, K.DepthwiseConv2D)
def depthwise(call: SymbolicCall) -> Axes:
    """Make the output depth_multiplier times as wide as the input; if the input is fixed, narrow the multiplier."""
    layer, x = call.operation, call.inputs[0][channel_axis(call.operation)]
    if x.free or layer.depth_multiplier == 1:
        return image_output(call, x.each(layer.depth_multiplier))
    return image_output(call, call.width("depth_multiplier").repeated(x.size))


@narrows(K.Dense)
def dense(call: SymbolicCall) -> Axes:
    return call.inputs[0].but(-1, call.width("units"))


@narrows(K.Embedding)
def embedding(call: SymbolicCall) -> Axes:
    return Axes((*call.inputs[0].axes, call.width("output_dim")))


@narrows(K.EinsumDense)
def einsum_dense(call: SymbolicCall) -> Axes:
    """Narrow the axes whose labels are in the kernel and the output, but not in the input."""
    layer, x, shape = call.operation, call.inputs[0], call.shapes[0]
    (operand, _), result = labels(layer.equation, [x.shape])
    axes_by_label = dict(zip(operand, x.axes, strict=True))
    axes = [
        axes_by_label[label] if label in axes_by_label else call.width(f"axis {label}", size)
        for label, size in zip(result, shape, strict=True)
    ]
    partial = layer.partial_output_shape
    partial = (partial,) if isinstance(partial, int) else tuple(partial)
    last = axes[1 : len(partial) + 1] if layer.equation.endswith("...") else axes[-len(partial) :]
    call.set(output_shape=tuple(None if size is None else axis for size, axis in zip(partial, last, strict=True)))
    return Axes(tuple(axes))


@narrows(K.MultiHeadAttention)
def multi_head(call: SymbolicCall):
    """Keep the number of heads and narrow each.

    The output is as wide as the query; if the layer has an `output_shape`, that is narrowed independently.
    """
    layer, query = call.operation, call.argument("query", 0)
    key = call.width("key_dim")
    call.set(value_dim=key) if layer.value_dim == layer.key_dim else call.width("value_dim")
    out = query
    shape = call.config["output_shape"]
    if shape is not None:
        shape = shape if isinstance(shape, tuple | list) else (shape,)
        if len(shape) > 1:
            call.refuse(f"its output_shape {tuple(shape)} has more than one axis")
        width = call.width("output width", shape[0])
        call.set(output_shape=(width,))
        out = query.but(-1, width)
    return _with_scores(call, out)


@narrows(K.GroupQueryAttention)
def grouped_query(call: SymbolicCall):
    """Keep the number of heads and narrow each; make the query, value and key inputs equally wide."""
    call.width("head_dim")
    query, *others = (call.argument(name, n) for n, name in enumerate(("query", "value", "key")))
    for other in others:
        if other is not None:
            join(query[-1], other[-1])  # as Keras requires
    return _with_scores(call, query)


def _with_scores(call: SymbolicCall, out: Axes) -> list[Axes]:
    """Return the axes of all outputs; attention scores, if returned, keep their sizes."""
    return [out, *(Axes(tuple(map(fixed, shape))) for shape in call.shapes[1:])]


@narrows(K.Attention, K.AdditiveAttention)
def attention(call: SymbolicCall):
    """Make queries and keys equally wide; the output is as wide as the values."""
    query, value, *rest = call.argument("inputs", 0)
    join(query[-1], (rest[0] if rest else value)[-1])
    return _with_scores(call, query.but(-1, value[-1]))


@narrows(K.SimpleRNN, K.GRU, K.LSTM)
def recurrent(call: SymbolicCall) -> list[Axes]:
    units = call.width("units")
    for state in call.inputs[1:]:
        join(state[-1], units)
    steps = call.inputs[0].axes[1:-1]
    return [Axes((fixed(shape[0]), *(steps if len(shape) == 3 else ()), units)) for shape in call.shapes]


@narrows(K.BatchNormalization, K.LayerNormalization, K.RMSNormalization, K.PReLU)
def normalised(call: SymbolicCall) -> Axes:
    """Keep the input's axes: the weights take their size from the input."""
    return call.inputs[0]


@narrows(K.GroupNormalization)
def group_norm(call: SymbolicCall) -> Axes:
    """Take fewer groups if there are at least as many groups as channels in a group; else narrow each group."""
    layer, x = call.operation, call.inputs[0]
    axis, count = x[layer.axis], layer.groups  # Keras has replaced -1 by the number of channels
    if count > 1 and axis.free:
        members = axis.size // count
        if count >= members:
            call.set(groups=groups(axis, members))
        else:
            evenly(axis, count)
    return x


@narrows(K.Normalization)
def normalization(call: SymbolicCall) -> Axes:
    """Keep the sizes of the axes for which the layer holds constants."""
    axes = call.operation.axis
    freeze_axes(call, () if axes is None else (axes,) if isinstance(axes, int) else axes)
    return call.inputs[0]


@narrows(K.Rescaling)
def rescaling(call: SymbolicCall) -> Axes:
    if np.size(call.operation.scale) > 1 or np.size(call.operation.offset) > 1:
        freeze_axes(call, (-1,))
    return call.inputs[0]


@narrows(K.Concatenate)
def concatenate(call: SymbolicCall) -> Axes:
    return concatenated(call, call.operation.axis)


@narrows(K.Dot)
def dot(call: SymbolicCall) -> Axes:
    """Give the two axes over which the layer Dot sums the same width, and return the axes of its output."""
    (a, b), axes = call.inputs, call.operation.axes
    i, j = (axes, axes) if isinstance(axes, int) else axes
    join(a[i], b[j])
    rest = [axis for n, axis in enumerate(a.axes) if n != i % len(a)]
    rest += [axis for n, axis in enumerate(b.axes) if n not in (0, j % len(b))]
    return Axes((*rest, fixed(1)) if len(rest) == 1 else tuple(rest))


@narrows(K.Reshape)
def reshape(call: SymbolicCall) -> Axes:
    x, axes = call.inputs[0], reshaped_axes(call)
    if x.free:
        call.set(target_shape=sizes(axes))
    return Axes((x[0], *axes))


@narrows(K.Flatten)
def flatten(call: SymbolicCall) -> Axes:
    x = call.inputs[0]
    axes = list(x.axes[1:])
    if call.operation.data_format == "channels_first" and len(axes) > 1:
        axes = [*axes[1:], axes[0]]
    try:
        return Axes((x[0], merged(axes)))
    except ReshapeError as error:
        call.refuse(f"it flattens {x.shape}: {error}")


@narrows(K.Permute)
def permute(call: SymbolicCall) -> Axes:
    return reordered(call.inputs[0], (0, *call.operation.dims))


@narrows(K.RepeatVector)
def repeat_vector(call: SymbolicCall) -> Axes:
    x = call.inputs[0]
    return Axes((x[0], fixed(call.operation.n), x[1]))


POOLED = ("GlobalAveragePooling", "GlobalMaxPooling")


@narrows(*(getattr(K, f"{kind}{n}D") for kind in POOLED for n in (1, 2, 3)))
def pooled(call: SymbolicCall) -> Axes:
    """Pool all positions into one; channels stay."""
    x, axis = call.inputs[0], channel_axis(call.operation)
    if len(call.shapes[0]) == 2:
        return Axes((x[0], x[axis]))
    return Axes(tuple(fixed(1) for _ in x.axes)).but(0, x[0]).but(axis, x[axis])
