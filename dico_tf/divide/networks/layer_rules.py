"""How Keras' own layers pass widths on."""

import keras
import numpy as np

from dico_tf.divide.networks.cost import labels
from dico_tf.divide.networks.fallback_rules import frozen
from dico_tf.divide.networks.operation_rules import concatenated, reordered, sizes
from dico_tf.divide.networks.reshaping import merged, reshaped
from dico_tf.divide.networks.width_tracing import Axes, Step, narrows
from dico_tf.divide.networks.widths import Axis, evenly, fixed, freeze, groups, join

K = keras.layers


def channel_axis(layer) -> int:
    return -1 if layer.data_format == "channels_last" else 1


def image(step: Step, channels: Axis) -> Axes:
    """Positions as in the whole, channels as given."""
    x, channel = step.inputs[0], channel_axis(step.operation)
    for n in range(1, len(x)):
        if n != channel % len(x):
            freeze(x[n])
    return Axes(tuple(fixed(size) for size in step.shapes[0])).but(channel, channels)


@narrows(K.Conv1D, K.Conv2D, K.Conv3D)
def convolution(step: Step) -> Axes:
    """Its filters are a width. In groups: fewer of them, or narrower ones where there are few of them."""
    layer, x = step.operation, step.inputs[0][channel_axis(step.operation)]
    if layer.groups == 1:
        return image(step, step.width("filters"))
    members, made = x.size // layer.groups, layer.filters // layer.groups
    if x.free and layer.groups >= members:
        count = groups(x, members)
        step.set(groups=count, filters=count.each(made))
        return image(step, count.each(made))
    if x.free:
        evenly(x, layer.groups)
    filters = step.width("filters of a group", made).repeated(layer.groups)
    step.set(filters=filters)
    return image(step, filters)


@narrows(K.Conv1DTranspose, K.Conv2DTranspose, K.Conv3DTranspose, K.SeparableConv1D, K.SeparableConv2D)
def filters(step: Step) -> Axes:
    return image(step, step.width("filters"))


@narrows(K.DepthwiseConv1D, K.DepthwiseConv2D)
def depthwise(step: Step) -> Axes:
    """Every channel depth_multiplier times; of an input that stays as it is, the multiplier narrows."""
    layer, x = step.operation, step.inputs[0][channel_axis(step.operation)]
    if x.free or layer.depth_multiplier == 1:
        return image(step, x.each(layer.depth_multiplier))
    return image(step, step.width("depth_multiplier").repeated(x.size))


@narrows(K.Dense)
def dense(step: Step) -> Axes:
    return step.inputs[0].but(-1, step.width("units"))


@narrows(K.Embedding)
def embedding(step: Step) -> Axes:
    return Axes((*step.inputs[0].axes, step.width("output_dim")))


@narrows(K.EinsumDense)
def einsum_dense(step: Step) -> Axes:
    """Labels that only kernel and output have are widths."""
    layer, x, shape = step.operation, step.inputs[0], step.shapes[0]
    (operand, _), result = labels(layer.equation, [x.shape])
    found = dict(zip(operand, x.axes, strict=True))
    axes = [
        found[label] if label in found else step.width(f"axis {label}", size)
        for label, size in zip(result, shape, strict=True)
    ]
    given = layer.partial_output_shape
    given = (given,) if isinstance(given, int) else tuple(given)
    last = axes[1 : len(given) + 1] if layer.equation.endswith("...") else axes[-len(given) :]
    step.set(output_shape=tuple(None if size is None else axis for size, axis in zip(given, last, strict=True)))
    return Axes(tuple(axes))


@narrows(K.MultiHeadAttention)
def multi_head(step: Step):
    """As many heads, each narrower."""
    layer, query = step.operation, step.argument("query", 0)
    key = step.width("key_dim")
    step.set(value_dim=key) if layer.value_dim == layer.key_dim else step.width("value_dim")
    out = query
    given = step.config["output_shape"]
    if given is not None:
        given = given if isinstance(given, tuple | list) else (given,)
        if len(given) > 1:
            step.refuse(f"its output_shape {tuple(given)} has more than one axis")
        width = step.width("output width", given[0])
        step.set(output_shape=(width,))
        out = query.but(-1, width)
    return _with_scores(step, out)


@narrows(K.GroupQueryAttention)
def grouped_query(step: Step):
    """As many heads, each narrower."""
    step.width("head_dim")
    query, *others = (step.argument(name, n) for n, name in enumerate(("query", "value", "key")))
    for other in others:
        if other is not None:
            join(query[-1], other[-1])  # Keras asks for it
    return _with_scores(step, query)


def _with_scores(step: Step, out: Axes) -> list[Axes]:
    return [out, *(Axes(tuple(map(fixed, shape))) for shape in step.shapes[1:])]


@narrows(K.Attention, K.AdditiveAttention)
def attention(step: Step):
    """Queries and keys are equally wide; what comes out is as wide as the values."""
    query, value, *rest = step.argument("inputs", 0)
    join(query[-1], (rest[0] if rest else value)[-1])
    return _with_scores(step, query.but(-1, value[-1]))


@narrows(K.SimpleRNN, K.GRU, K.LSTM)
def recurrent(step: Step) -> list[Axes]:
    units = step.width("units")
    for state in step.inputs[1:]:
        join(state[-1], units)
    steps = step.inputs[0].axes[1:-1]
    return [Axes((fixed(shape[0]), *(steps if len(shape) == 3 else ()), units)) for shape in step.shapes]


@narrows(K.BatchNormalization, K.LayerNormalization, K.RMSNormalization, K.PReLU)
def alike(step: Step) -> Axes:
    """Its weights are made for what comes in."""
    return step.inputs[0]


@narrows(K.GroupNormalization)
def group_norm(step: Step) -> Axes:
    """Fewer groups of as many channels, or as many of fewer."""
    layer, x = step.operation, step.inputs[0]
    axis, count = x[layer.axis], layer.groups  # -1 has become the number of channels
    if count > 1 and axis.free:
        members = axis.size // count
        if count >= members:
            step.set(groups=groups(axis, members))
        else:
            evenly(axis, count)
    return x


@narrows(K.Normalization)
def normalization(step: Step) -> Axes:
    """Constants of every channel."""
    given = step.operation.axis
    frozen(step, () if given is None else (given,) if isinstance(given, int) else given)
    return step.inputs[0]


@narrows(K.Rescaling)
def rescaling(step: Step) -> Axes:
    if np.size(step.operation.scale) > 1 or np.size(step.operation.offset) > 1:
        frozen(step, (-1,))
    return step.inputs[0]


@narrows(K.Concatenate)
def concatenate(step: Step) -> Axes:
    return concatenated(step, step.operation.axis)


@narrows(K.Dot)
def dot(step: Step) -> Axes:
    """Contracted axes are equally wide."""
    (a, b), axes = step.inputs, step.operation.axes
    i, j = (axes, axes) if isinstance(axes, int) else axes
    join(a[i], b[j])
    rest = [axis for n, axis in enumerate(a.axes) if n != i % len(a)]
    rest += [axis for n, axis in enumerate(b.axes) if n not in (0, j % len(b))]
    return Axes((*rest, fixed(1)) if len(rest) == 1 else tuple(rest))


@narrows(K.Reshape)
def reshape(step: Step) -> Axes:
    x, shape = step.inputs[0], step.shapes[0]
    axes = reshaped(x.axes[1:], shape[1:])
    if axes is None:
        step.refuse(f"widths do not fit from {x.shape} into {shape}")
    if x.free:
        step.set(target_shape=sizes(axes))
    return Axes((x[0], *axes))


@narrows(K.Flatten)
def flatten(step: Step) -> Axes:
    x = step.inputs[0]
    axes = list(x.axes[1:])
    if step.operation.data_format == "channels_first" and len(axes) > 1:
        axes = [*axes[1:], axes[0]]
    one = merged(axes)
    if one is None:
        step.refuse(f"widths do not fit from {x.shape} into one axis; give keras.Input its sizes")
    return Axes((x[0], one))


@narrows(K.Permute)
def permute(step: Step) -> Axes:
    return reordered(step.inputs[0], (0, *step.operation.dims))


@narrows(K.RepeatVector)
def repeat_vector(step: Step) -> Axes:
    x = step.inputs[0]
    return Axes((x[0], fixed(step.operation.n), x[1]))


POOLED = ("GlobalAveragePooling", "GlobalMaxPooling")


@narrows(*(getattr(K, f"{kind}{n}D") for kind in POOLED for n in (1, 2, 3)))
def pooled(step: Step) -> Axes:
    """Every position as one."""
    x, axis = step.inputs[0], channel_axis(step.operation)
    if len(step.shapes[0]) == 2:
        return Axes((x[0], x[axis]))
    return Axes(tuple(fixed(1) for _ in x.axes)).but(0, x[0]).but(axis, x[axis])
