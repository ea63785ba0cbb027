"""Count the trainable parameters of a built Keras model, and its multiply-adds for one image."""

import dataclasses
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras

from dico_tf.divide.networks.graph import calls, flat, nested, weightless
from dico_tf.layers import keras_internals
from dico_tf.layers.attention import Attention, ClassAttention, CrossCovariance
from dico_tf.layers.embeddings import WAVES, FourierPlaces
from dico_tf.layers.window_attention import WindowAttention

Shape = tuple[int | None, ...]
COUNTERS: dict[type, Callable[[Any, Sequence[Shape], Shape], int]] = {}
OPERATIONS = {"Matmul", "Einsum"}  # of keras.ops that multiply two tensors


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkCost:
    """Parameters and multiply-adds of a network for one image.

    Attributes:
        params: trainable parameters, also of frozen layers; a shared layer counts once.
        macs: multiply-adds of convolutions, dense and recurrent layers, attention and matrix products, which papers
            call FLOPs; None if a size that they depend on is open.
        running: moving means and variances of normalisations, which some papers count as parameters; not part of
            `params`, and 0 where only the widths of a network are known (`Plan.whole`).
    """

    params: int
    macs: int | None
    running: int = dataclasses.field(default=0, compare=False)


def counts(*kinds: type):
    """Return a decorator that registers a counter for layers of these classes and their subclasses.

    A counter is a function (layer, input shapes, output shape) -> multiply-adds.
    """

    def register(counter):
        COUNTERS.update(dict.fromkeys(kinds, counter))
        return counter

    return register


def _positions(layer, shape: Shape) -> int:
    return math.prod(shape[1:-1] if layer.data_format == "channels_last" else shape[2:])


@counts(*(getattr(keras.layers, f"{kind}Conv{n}D") for kind, dims in (("", "123"), ("Depthwise", "12")) for n in dims))
def _convolution(layer, inputs, output) -> int:
    """Return output positions x kernel entries (kernel size x input channels / groups x output channels)."""
    return _positions(layer, output) * math.prod(layer.kernel.shape)


@counts(*(getattr(keras.layers, f"Conv{n}DTranspose") for n in "123"))
def _transposed(layer, inputs, output) -> int:
    """Return input positions x kernel entries."""
    return _positions(layer, inputs[0]) * math.prod(layer.kernel.shape)


@counts(keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)
def _separable(layer, inputs, output) -> int:
    kernels = (layer.depthwise_kernel, layer.pointwise_kernel)
    return _positions(layer, output) * sum(math.prod(kernel.shape) for kernel in kernels)


@counts(keras.layers.Dense)
def _dense(layer, inputs, output) -> int:
    return math.prod(output[1:-1]) * math.prod(layer.kernel.shape)


def labels(equation: str, shapes: Sequence[Shape]) -> tuple[list[str], str]:
    """Return the subscripts of an einsum equation: those of each operand, and those of the result.

    Capital letters replace an ellipsis. If the equation has no "->", the result has the ellipsis, then, in
    alphabetical order, the labels that occur once.

    Args:
        shapes: of the operands, the batch included.
    """
    left, arrow, right = equation.replace(" ", "").partition("->")
    operands = left.split(",")
    if not arrow:
        right = "..." * ("..." in left) + "".join(x for x in sorted(set(left) - {",", "."}) if left.count(x) == 1)
    ellipsis = ""
    for operand, shape in zip(operands, shapes, strict=False):
        if "..." in operand:
            ellipsis = "ABCDEFGH"[: len(shape) - len(operand) + 3]
    return [operand.replace("...", ellipsis) for operand in operands], right.replace("...", ellipsis)


def _einsum(equation: str, shapes: Sequence[Shape], output: Shape) -> int:
    """Return the product of the sizes of all labels except the first of the result, which is the batch."""
    operands, result = labels(equation, shapes)
    sizes = {}
    for operand, shape in zip((*operands, result), (*shapes, output), strict=True):
        sizes |= dict(zip(operand, shape, strict=True))
    return math.prod(size for label, size in sizes.items() if label != result[:1] and size is not None)


@counts(keras.layers.EinsumDense)
def _einsum_dense(layer, inputs, output) -> int:
    return _einsum(layer.equation, (inputs[0], layer.kernel.shape), output)


def _attention(
    queries: int, keys: int, seen: int, heads: int, key_heads: int, key: int, value: int, widths: Sequence[int]
) -> int:
    """Return multiply-adds of the projections, of the scores and of the weighted sum.

    Args:
        queries, keys: numbers of positions; each query sees `seen` keys.
        heads, key_heads: numbers of heads of the queries, and of the keys and values.
        key, value: channels of one head's keys and values.
        widths: channels of the query, key and value inputs and of the output.
    """
    query_in, key_in, value_in, out = widths
    projections = queries * heads * (query_in * key + value * out) + keys * key_heads * (
        key_in * key + value_in * value
    )
    return projections + queries * seen * heads * (key + value)


def _attended(inputs) -> tuple[int, int, list[int]]:
    """Return (number of query positions, number of key positions, [channels of query, of key and of value]).

    Args:
        inputs: shapes of query, value and key, in this order; without a key, the value is the key.
    """
    query, value, *rest = inputs
    key = rest[0] if rest else value
    return math.prod(query[1:-1]), math.prod(value[1:-1]), [query[-1], key[-1], value[-1]]


@counts(keras.layers.MultiHeadAttention)
def _multi_head(layer, inputs, output) -> int:
    queries, keys, widths = _attended(inputs)
    heads, axes = layer.num_heads, layer.attention_axes
    seen = math.prod(inputs[1][axis] for axis in axes)  # all keys, unless attention_axes are set
    return _attention(queries, keys, seen, heads, heads, layer.key_dim, layer.value_dim, [*widths, output[-1]])


@counts(keras.layers.GroupQueryAttention)
def _grouped_query(layer, inputs, output) -> int:
    queries, keys, widths = _attended(inputs)
    heads, key_heads, depth = layer.num_query_heads, layer.num_key_value_heads, layer.head_dim
    return _attention(queries, keys, keys, heads, key_heads, depth, depth, [*widths, output[-1]])


@counts(keras.layers.Attention)
def _dot_attention(layer, inputs, output) -> int:
    queries, keys, (_, key, value) = _attended(inputs)
    return queries * keys * (key + value)


@counts(Attention)
def _self_attention(layer, inputs, output) -> int:
    """Count the multiply-adds of all queries with all keys, and of the attention weights with all values."""
    _, tokens, width = output
    return 2 * tokens * tokens * width


@counts(WindowAttention)
def _window_attention(layer, inputs, output) -> int:
    """Count the multiply-adds of queries with keys, and of the attention weights with values, within windows."""
    return 2 * math.prod(output[1:]) * math.prod(layer.window)


@counts(CrossCovariance)
def _cross_covariance(layer, inputs, output) -> int:
    """Count the multiply-adds of each channel's query with its head's keys, and of the weights with the values."""
    return 2 * math.prod(output[1:]) * (output[-1] // layer.heads)


@counts(ClassAttention)
def _class_attention(layer, inputs, output) -> int:
    return 2 * math.prod(inputs[1][1:])


@counts(FourierPlaces)
def _fourier_places(layer, inputs, output) -> int:
    return 2 * WAVES * math.prod(output[1:])


@counts(keras.layers.SimpleRNN, keras.layers.GRU, keras.layers.LSTM)
def _recurrent(layer, inputs, output) -> int:
    return inputs[0][1] * sum(math.prod(k.shape) for k in (layer.cell.kernel, layer.cell.recurrent_kernel))


def _of_operation(operation, inputs, output) -> int:
    if type(operation).__name__ == "Einsum":
        return _einsum(operation.subscripts, inputs, output)
    return math.prod(output[1:]) * inputs[0][-1]


def counter(operation: Any) -> Callable[[Any, Sequence[Shape], Shape], int] | None:
    """Return the function that counts an operation's multiply-adds, or None if they are not counted."""
    if isinstance(operation, keras.layers.Layer):
        return next((COUNTERS[kind] for kind in type(operation).__mro__ if kind in COUNTERS), None)
    return _of_operation if type(operation).__name__ in OPERATIONS else None


def operands(operation: Any, args: tuple, kwargs: dict[str, Any]) -> list[Any]:
    """Return the tensors and arrays among a call's arguments, in the order of the signature of `operation.call`.

    Arguments whose names end in "mask" are left out.
    """
    arguments = inspect.signature(operation.call).bind(*args, **kwargs).arguments
    leaves = keras.tree.flatten([value for name, value in arguments.items() if not name.endswith("mask")])
    return [leaf for leaf in leaves if hasattr(leaf, "shape")]


def multiply_adds(operation: Any, inputs: Sequence[Shape], output: Shape) -> int | None:
    """Return the multiply-adds of one call for one image.

    They are 0 if the operation has no counter, and None if a size other than the batch is open.
    """
    count = counter(operation)
    if count is None:
        return 0
    if None in [size for shape in (*inputs, output) for size in shape[1:]]:
        return None
    return count(operation, inputs, output)


def total(counts: Sequence[int | None]) -> int | None:
    """Return the sum, or None if a count is None."""
    return None if None in counts else sum(counts)


def _macs(model: keras.Model) -> int | None:
    counted = [call for call in calls(model) if counter(call.operation)]
    shapes = [[tuple(x.shape) for x in operands(c.operation, c.args, c.kwargs)] for c in counted]
    macs = [multiply_adds(c.operation, inputs, c.outputs[0].shape) for c, inputs in zip(counted, shapes, strict=True)]
    return total(macs)


def cost(model: keras.Model) -> NetworkCost:
    """Count the trainable parameters, moving statistics and multiply-adds of a built functional or sequential model."""
    params = sum(math.prod(v.shape) for v in keras_internals.parameters(model))
    running = sum(math.prod(v.shape) for v in model.non_trainable_variables if v.name.startswith("moving_"))
    # A nested model knows the input sizes it was built with, which may differ from those it is called with.
    macs = _macs(weightless(flat, model) if nested(model) else model)
    return NetworkCost(params=params, macs=macs, running=running)
