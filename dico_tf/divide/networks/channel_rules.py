"""How the channels of each layer's output follow from its inputs', for `channel_graph`."""

import numpy as np

from dico_tf.divide.networks.channel_labels import LABELS, LabelledCall, labels, passed
from dico_tf.divide.networks.cost import labels as equation_labels
from dico_tf.divide.networks.slices import READS, WRITES

__all__ = ["LABELS"]


def _bias(call: LabelledCall, channels: np.ndarray) -> None:
    bias = getattr(call.operation, "bias", None)
    if bias is not None and getattr(call.operation, "use_bias", True):
        call.weight(bias, {-1: channels}, {})


def _last(call: LabelledCall) -> None:
    if getattr(call.operation, "data_format", "channels_last") == "channels_first":
        call.refuse("its channels are not the last axis")


@labels("Conv1D", "Conv2D", "Conv3D")
def convolution(call: LabelledCall) -> np.ndarray:
    """Make new channels; those of a group form a unit with the channels that it reads.

    If each channel has one filter of its own, pass the channels.
    """
    _last(call)
    layer, x, groups = call.operation, call.x, call.operation.groups
    if 1 < groups == layer.filters == len(x):  # one filter for each channel
        call.weight(layer.kernel, {-1: x}, {-1: WRITES})
        out = x
    else:
        out = call.new()
        if groups > 1 or layer.name in call.reader.grouped:
            call.reader.unite(x.reshape(groups, -1), out.reshape(groups, -1))
        call.weight(layer.kernel, {-2: x, -1: out}, {-2: READS, -1: WRITES}, groups)
    _bias(call, out)
    return out


@labels("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose")
def transposed(call: LabelledCall) -> np.ndarray:
    _last(call)
    out = call.new()
    call.weight(call.operation.kernel, {-2: out, -1: call.x}, {-2: WRITES, -1: READS})
    _bias(call, out)
    return out


@labels("DepthwiseConv1D", "DepthwiseConv2D")
def depthwise(call: LabelledCall) -> np.ndarray:
    _last(call)
    layer, x = call.operation, call.x
    out = x
    if layer.depth_multiplier > 1:
        out = call.new()
        call.reader.unite(x[:, None], out.reshape(len(x), -1))
    call.weight(layer.kernel, {-2: x}, {-2: WRITES})
    _bias(call, out)
    return out


@labels("SeparableConv1D", "SeparableConv2D")
def separable(call: LabelledCall) -> np.ndarray:
    _last(call)
    layer, out = call.operation, call.new()
    call.weight(layer.depthwise_kernel, {-2: call.x}, {})
    between = np.repeat(call.x, layer.depth_multiplier)
    call.weight(layer.pointwise_kernel, {-2: between, -1: out}, {-2: READS, -1: WRITES})
    _bias(call, out)
    return out


@labels("Dense")
def dense(call: LabelledCall) -> np.ndarray:
    out = call.new()
    call.weight(call.operation.kernel, {0: call.x, 1: out}, {0: READS, 1: WRITES})
    _bias(call, out)
    return out


@labels("EinsumDense")
def einsum_dense(call: LabelledCall) -> np.ndarray:
    layer = call.operation
    (operand, kernel), result = equation_labels(layer.equation, [call.shapes[0]])
    if len(kernel) != 2 or kernel[0] != operand[-1] or kernel[1] != result[-1]:
        call.refuse(f"its equation is {layer.equation}; expected one that maps the last axis")
    return dense(call)


@labels("Embedding")
def embedding(call: LabelledCall) -> np.ndarray:
    out = call.new()
    call.weight(call.operation.embeddings, {1: out}, {1: WRITES})
    return out


@labels("GroupNormalization")
def group_norm(call: LabelledCall) -> list[np.ndarray | None]:
    """Pass the channels, and make those of a group one unit."""
    groups = call.operation.groups
    if 1 < groups < len(call.x):
        call.reader.unite(call.x.reshape(groups, -1))
    return passed(call)


@labels("Concatenate")
def concatenate(call: LabelledCall) -> np.ndarray | list[np.ndarray | None]:
    if call.operation.axis % len(call.outputs[0]) != len(call.outputs[0]) - 1:
        return passed(call)
    return np.concatenate(call.inputs)


@labels("Flatten")
def flatten(call: LabelledCall) -> np.ndarray:
    return np.tile(call.x, call.outputs[0][-1] // len(call.x))


@labels("Reshape")
def reshape(call: LabelledCall) -> list[np.ndarray | None] | np.ndarray:
    """Pass channels if the last axis stays, or all axes are flattened into one; refuse any other reshape."""
    before, after = call.shapes[0][-1], call.outputs[0][-1]
    if after is not None and before is not None and len(call.outputs[0]) == 2 and after % before == 0:
        return flatten(call)
    if before != after:
        call.refuse(f"it reshapes {call.shapes[0]} to {call.outputs[0]}")
    return call.x


@labels("Permute", "Transpose", "Swapaxes", "Split", "Dot", "Matmul", "Einsum", "RepeatVector", "Stack")
def refused(call: LabelledCall):
    call.refuse("channels are not followed through it")


@labels("MultiHeadAttention")
def multi_head(call: LabelledCall) -> list[np.ndarray | None]:
    """Make the channels of a head one unit; queries and keys share channels, the output has new ones.

    Refuse a layer with an attention mask or an output_shape.
    """
    layer = call.operation
    heads = layer.num_heads
    if len(call.inputs) > 3 or layer.get_config()["output_shape"] is not None:
        call.refuse("it has an attention mask or an output_shape")
    query, value, *key = call.inputs
    keys, values = call.new(heads * layer.key_dim), call.new(heads * layer.value_dim)
    call.reader.unite(keys.reshape(heads, -1), values.reshape(heads, -1))
    out = call.new(call.shapes[0][-1])
    makes = {"query": (query, keys), "key": (key[0] if key else value, keys), "value": (value, values)}
    for variable in layer.weights:
        *_, part, name = variable.path.split("/")
        read, written = makes.get(part, (values, out))
        if name == "kernel":  # [in, heads, d] or [heads, d, out]
            call.weight(variable, {0: read, 1: written}, {0: READS, 1: WRITES}, shape=(len(read), len(written)))
        else:
            call.weight(variable, {0: written}, {}, shape=(len(written),))
    return [out]


@labels("Attention")
def attention(call: LabelledCall) -> np.ndarray:
    """Make the channels of a head one unit; q and k share channels, the output has those of v.

    The input has the order [q, k, v], each [heads, d]. Keras' own attention is refused.
    """
    layer = call.operation
    if not hasattr(layer, "heads"):  # Keras' own
        call.refuse("channels are not followed through it")
    q, k, v = call.x.reshape(3, layer.heads, -1)
    call.reader.join(q.reshape(-1), k.reshape(-1))
    call.reader.unite(q, v)
    for variable in layer.weights:
        if variable.name == "table":  # of window attention: a bias for each head
            bias = call.new(layer.heads)
            call.reader.unite(q, bias[:, None])
            call.weight(variable, {-1: bias}, {})
    return v.reshape(-1)


labels("WindowAttention")(attention)


@labels("CrossCovariance")
def cross_covariance(call: LabelledCall) -> np.ndarray:
    """Make the channels of a head one unit. Keys and values share channels; the output has the queries' channels."""
    layer = call.operation
    q, k, v = call.x.reshape(3, layer.heads, -1)
    call.reader.join(k.reshape(-1), v.reshape(-1))
    temperature = call.new(layer.heads)
    call.reader.unite(q, k, temperature[:, None])
    call.weight(layer.temperature, {0: temperature}, {})
    return q.reshape(-1)


@labels("ClassAttention")
def class_attention(call: LabelledCall) -> np.ndarray:
    q, k, v = (x.reshape(call.operation.heads, -1) for x in call.inputs)
    call.reader.join(q.reshape(-1), k.reshape(-1))
    call.reader.unite(q, v)
    return v.reshape(-1)


@labels("Halves")
def halves(call: LabelledCall) -> np.ndarray:
    return call.reader.join(*call.x.reshape(2, -1))


@labels("WeighedHalves")
def weighed_halves(call: LabelledCall) -> np.ndarray:
    """Return the channels that both halves of the input and their scores share, as the halves are summed.

    The m channels of each half have scores in the order [groups, 2, m / groups].
    """
    x, scores = call.inputs
    ordered = scores.reshape(call.operation.groups, 2, -1).transpose(1, 0, 2).reshape(2, -1)
    return call.reader.join(*x.reshape(2, -1), *ordered)


@labels("ResizeAs")
def resize_as(call: LabelledCall) -> np.ndarray:
    """Pass the channels of the first input; the second gives the size of the image only."""
    return call.x


@labels("ZeroChannels")
def zero_channels(call: LabelledCall) -> np.ndarray:
    """Return the labels of the input's channels, followed by -1 for each channel of zeros that is added."""
    return np.concatenate([call.x, np.full(call.outputs[0][-1] - len(call.x), -1)])


@labels("Neighbours")
def neighbours(call: LabelledCall) -> np.ndarray:
    return np.tile(call.x, 4)
