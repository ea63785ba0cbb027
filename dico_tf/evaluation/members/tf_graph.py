"""TensorFlow graphs of members: call them on arrays, count their multiply-adds, and use them as layers of an export."""

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2  # a private module

from dico_tf.evaluation.cost import Cost
from dico_tf.evaluation.members.member import Graph
from dico_tf.evaluation.members.preprocessing import PIXELS

_KERNELS = ("Conv2D", "DepthwiseConv2dNative", "Conv3D", "MatMul", "BatchMatMulV2", "Einsum")
_COUNTED = (*_KERNELS, "Conv2DBackpropInput")
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
_UNINLINED = ("_XlaMustCompile", "_noinline", "_output_shapes")  # attributes that keep a call from being inlined
_MARKS = itertools.count()
_TINY = float(np.finfo(np.float32).tiny)  # output_decoding.py uses the same lower bound


@dataclasses.dataclass(frozen=True)
class VariableHolder:
    """Has an attribute `value`, as Keras variables have."""

    value: Any  # a variable, or an object that owns variables


class GraphNetwork:
    """A member's graph as a callable network: raw pixels -> logits of the committee's classes."""

    def __init__(self, graph: Graph, outputs: str, dropped: int):
        """Wrap a graph.

        Args:
            outputs: "logits" or "probabilities".
            dropped: number of outputs to leave out at the start: 1 = a background class.
        """
        self._graph, self._outputs, self._dropped = graph, outputs, dropped
        self.variables = [VariableHolder(value) for value in graph.trackables]

    def __call__(self, image: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Return logits float32 [B, C] of images float32 [B, H, W, 3] of 0..255; `training` changes nothing."""
        values = tf.cast(self._graph.call(image), tf.float32)[:, self._dropped :]
        return tf.math.log(tf.maximum(values, _TINY)) if self._outputs == "probabilities" else values


def freeze_variables(function: Any) -> Any:
    """Return a copy of a concrete function with constants in place of its variables."""
    return convert_variables_to_constants_v2(function)


def array_function(
    call: Callable[[tf.Tensor], tf.Tensor], side: int, kind: tf.DType = tf.uint8, batch: int | None = None
) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function of arrays: images [B, side, side, 3] -> float32 outputs [B, outputs].

    Args:
        call: network: tensor of images -> tensor of outputs. It is traced once.
        side: of the images, in pixels.
        kind: dtype of the images.
        batch: number of images in each call; None = any.
    """
    image = tf.TensorSpec((batch, side, side, 3), kind)
    forward = tf.function(call, input_signature=[image], autograph=False)
    return lambda images: np.asarray(tf.cast(forward(tf.constant(images)), tf.float32))


def preprocess_tensor(images: tf.Tensor, ranges: str, kind: tf.DType) -> tf.Tensor:
    """Convert raw float32 pixels to a network's input of dtype `kind`, within a graph.

    It does what preprocessing.preprocess does without a scale: integer inputs get raw pixels, for int8 minus 128.

    Args:
        ranges: range of values of a float input, a key of PIXELS.
    """
    if kind.is_integer:
        return tf.cast(tf.round(images) - (128 if kind == tf.int8 else 0), kind)
    return tf.cast(PIXELS[ranges](images), kind)


def graph_cost(call: Callable[[tf.Tensor], Any], side: int, kind: tf.DType, variables: list, batch: int = 1) -> Cost:
    """Count the multiply-adds of one image and the trained parameters; NaN for a number that cannot be counted.

    Variables become constants for this, which takes the memory of the network once more.

    Args:
        call: network: tensor of images -> outputs.
        side: of the images, in pixels.
        kind: dtype of the images.
        variables: of the network.
        batch: number of images in a call.
    """
    image = tf.TensorSpec((batch, side, side, 3), kind)
    try:
        traced = tf.function(call, autograph=False).get_concrete_function(image)
        frozen = _inlined(freeze_variables(traced))
        operations = frozen.graph.get_operations()
        total = _total(operations)
    except Exception:  # custom operations and lookup tables raise errors of many types
        return Cost(params=_parameters(variables, ()))
    macs = math.nan if total is None else total / batch
    return Cost(macs=macs, params=_parameters(variables, operations))


def _parameters(variables: list, operations: list | tuple) -> float:
    """Return the number of entries of all trainable float variables, or of all float variables if none is trainable.

    Without float variables, it is that of all float constants with more than one entry; NaN if there are none.
    """
    variables = [v for v in variables if v.dtype.is_floating]
    trained = [v for v in variables if v.trainable] or variables
    if trained:
        return float(sum(math.prod(v.shape) for v in trained))
    constants = (op for op in operations if op.type == "Const" and op.outputs[0].dtype.is_floating)
    sizes = [math.prod(op.outputs[0].shape) for op in constants]
    return float(sum(size for size in sizes if size > 1)) if any(size > 1 for size in sizes) else math.nan


def _multiply_adds(operation: tf.Operation) -> int | None:
    """Return the multiply-adds of an operation: 0 for types other than those of _COUNTED; None = unknown."""
    names = [attribute.func.name for attribute in operation.node_def.attr.values() if attribute.func.name]
    if names:  # loops and conditions that are still functions: the graph does not tell how often they run
        library = operation.graph.as_graph_def().library.function
        within = [node.op for f in library if f.signature.name in names for node in f.node_def]
        return None if set(within) & {*_COUNTED, *_CALLS} else 0
    if operation.type == "Conv2DBackpropInput":  # every input position meets every entry of the kernel
        kernel, image = operation.inputs[1].shape, operation.inputs[2].shape
        return _product(*_positions(image, operation), kernel) if image.rank else None
    if operation.type not in _KERNELS:
        return 0
    output, kernel = operation.outputs[0].shape, operation.inputs[1].shape
    if operation.type in ("MatMul", "BatchMatMulV2"):
        a, first = operation.inputs[0].shape, operation.type == "MatMul" and operation.get_attr("transpose_a")
        return _product(output, [a[-2 if first or _adjoint(operation) else -1]]) if a.rank else None
    if operation.type == "Einsum":
        return _einsum(operation)
    return _product(*_positions(output, operation), kernel) if output.rank else None


def _adjoint(operation: tf.Operation) -> bool:
    return operation.type == "BatchMatMulV2" and operation.get_attr("adj_x")


def _positions(shape: tf.TensorShape, operation: tf.Operation) -> list[tf.TensorShape]:
    """Return a shape without its channels, in two parts if they are the second axis, or one if they are the last."""
    first = operation.get_attr("data_format").startswith(b"NC")
    return [shape[:1], shape[2:]] if first else [shape[:-1]]


def _einsum(operation: tf.Operation) -> int | None:
    """Return the multiply-adds of an Einsum: the product of the lengths of all its axes; None if one is unknown."""
    operands, _, _ = operation.get_attr("equation").decode().partition("->")
    sizes: dict[str, int | None] = {}
    for labels, tensor in zip(operands.split(","), operation.inputs, strict=True):
        if "." in labels or tensor.shape.rank is None:
            return None
        sizes |= dict(zip(labels, tensor.shape.as_list(), strict=True))
    return _product(sizes.values())


def _product(*shapes) -> int | None:
    sizes = [size for shape in shapes for size in shape]
    return None if None in sizes else math.prod(sizes)


def _inlined(frozen: Any) -> Any:
    """Inline the calls that TensorFlow leaves in a frozen function, such as those of Keras' grouped convolutions."""
    if not any(operation.type in _CALLS for operation in frozen.graph.get_operations()):
        return frozen
    graph = frozen.graph.as_graph_def()
    mark = f"_{next(_MARKS)}"  # functions of these names are registered already, with other definitions
    for node in (*graph.node, *(node for function in graph.library.function for node in function.node_def)):
        for name in _UNINLINED:
            node.attr.pop(name, None)
        for attribute in node.attr.values():
            if attribute.HasField("func"):
                attribute.func.name += mark
    for function in graph.library.function:
        function.signature.name += mark
        function.arg_attr.clear()
        for name in _UNINLINED:
            function.attr.pop(name, None)
    wrapped = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(graph, name=""), [])
    ends = [[wrapped.graph.get_tensor_by_name(t.name) for t in tensors] for tensors in (frozen.inputs, frozen.outputs)]
    return freeze_variables(wrapped.prune(*ends))


def _total(operations: list[tf.Operation]) -> int | None:
    """Return the sum of the multiply-adds of operations; None if a number is unknown or a loop has multiply-adds."""
    if any(operation.type in _COUNTED for operation in _in_loops(operations)):
        return None  # the graph does not tell how often a loop runs
    counts = [_multiply_adds(operation) for operation in operations]
    return None if None in counts else sum(counts)


def _in_loops(operations: list[tf.Operation]) -> set[tf.Operation]:
    """Return the operations in the bodies of loops: those between a Switch and a NextIteration."""
    within: set[tf.Operation] = set()
    waiting = [operation for operation in operations if operation.type == "NextIteration"]
    while waiting:
        operation = waiting.pop()
        if operation not in within and operation.type not in ("Switch", "Enter"):
            within.add(operation)
            waiting += [tensor.op for tensor in operation.inputs]
    return within
