"""TensorFlow functions: called on arrays, and counted from their graphs."""

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from dico_tf.evaluation.cost import Cost
from dico_tf.evaluation.members.member import Graph
from dico_tf.evaluation.members.preprocessing import PIXELS

_KERNELS = {"Conv2D": -1, "DepthwiseConv2dNative": -1, "Conv3D": -1, "MatMul": 0, "BatchMatMulV2": 0, "Einsum": 0}
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
_WHOLE = ("_XlaMustCompile", "_noinline", "_output_shapes")  # keep a call from being dissolved, and its shapes unknown

_MARKS = itertools.count()
_TINY = float(np.finfo(np.float32).tiny)  # output_decoding.py uses the same lower bound


@dataclasses.dataclass(frozen=True)
class VariableHolder:
    value: Any  # a variable, or an object that has some


class GraphNetwork:
    """The member's own graph, whose outputs are read within."""

    def __init__(self, graph: Graph, outputs: str, dropped: int):
        """`outputs`: logits or probabilities, of which the first `dropped` are left out."""
        self._graph, self._outputs, self._dropped = graph, outputs, dropped
        self.variables = [VariableHolder(value) for value in graph.holds]

    def __call__(self, image: tf.Tensor, training: bool = False) -> tf.Tensor:
        """float32 [B, H, W, 3] of 0 to 255 -> float32 [B, C]."""
        values = tf.cast(self._graph.call(image), tf.float32)[:, self._dropped :]
        return tf.math.log(tf.maximum(values, _TINY)) if self._outputs == "probabilities" else values


def freeze_variables(function: Any) -> Any:
    """Return a concrete function whose variables have become constants of its graph. TensorFlow keeps this private."""
    return convert_variables_to_constants_v2(function)


def array_function(
    call: Callable[[tf.Tensor], tf.Tensor], side: int, kind: tf.DType = tf.uint8, batch: int | None = None
) -> Callable[[np.ndarray], np.ndarray]:
    """The network as one graph for every number of images; float32 [B, outputs]."""
    image = tf.TensorSpec((batch, side, side, 3), kind)
    forward = tf.function(call, input_signature=[image], autograph=False)
    return lambda images: np.asarray(tf.cast(forward(tf.constant(images)), tf.float32))


def preprocess_tensor(images: tf.Tensor, ranges: str, kind: tf.DType) -> tf.Tensor:
    """Raw pixels float32 as numbers of this kind: what pixels.prepared makes, within a graph."""
    if kind.is_integer:
        return tf.cast(tf.round(images) - (128 if kind == tf.int8 else 0), kind)
    return tf.cast(PIXELS[ranges](images), kind)


def graph_cost(call: Callable[[tf.Tensor], Any], side: int, kind: tf.DType, variables: list, batch: int = 1) -> Cost:
    """Multiply-adds of one image, and trained parameters; what cannot be counted is not known rather than too little.

    Variables are made constants for this, which takes the memory of the network once more.
    """
    image = tf.TensorSpec((batch, side, side, 3), kind)
    try:
        traced = tf.function(call, autograph=False).get_concrete_function(image)
        frozen = _dissolved(freeze_variables(traced))
        operations = frozen.graph.get_operations()
        total = _total(operations)
    except Exception:  # custom operations and tables fail each in their own way
        return Cost(params=_parameters(variables, ()))
    macs = math.nan if total is None else total / batch
    return Cost(macs=macs, params=_parameters(variables, operations))


def _parameters(variables: list, operations: list | tuple) -> float:
    """Of what can be trained; in a graph whose weights are constants already, of all kernels and biases."""
    variables = [v for v in variables if v.dtype.is_floating]
    trained = [v for v in variables if v.trainable] or variables
    if trained:
        return float(sum(math.prod(v.shape) for v in trained))
    constants = (op for op in operations if op.type == "Const" and op.outputs[0].dtype.is_floating)
    sizes = [math.prod(op.outputs[0].shape) for op in constants]
    return float(sum(size for size in sizes if size > 1)) if any(size > 1 for size in sizes) else math.nan


def _multiply_adds(operation: tf.Operation) -> int | None:
    """None where there are some and their number is not known."""
    names = [attribute.func.name for attribute in operation.node_def.attr.values() if attribute.func.name]
    if names:  # loops and choices: how often they run is not in the graph
        library = operation.graph.as_graph_def().library.function
        within = [node.op for f in library if f.signature.name in names for node in f.node_def]
        return None if set(within) & {*_KERNELS, *_CALLS} else 0
    if operation.type == "Conv2DBackpropInput":  # every input position meets every entry of the kernel
        kernel, given = operation.inputs[1].shape, operation.inputs[2].shape
        return _product(*_positions(given, operation), kernel) if given.rank else None
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
    """All of them, images' too, without the channels."""
    first = operation.get_attr("data_format").startswith(b"NC")
    return [shape[:1], shape[2:]] if first else [shape[:-1]]


def _einsum(operation: tf.Operation) -> int | None:
    """The product of all sizes named in the equation."""
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


def _dissolved(frozen: Any) -> Any:
    """The graph without the calls that were to stay whole, such as those of Keras' grouped convolutions."""
    if not any(operation.type in _CALLS for operation in frozen.graph.get_operations()):
        return frozen
    graph = frozen.graph.as_graph_def()
    mark = f"_{next(_MARKS)}"  # TensorFlow knows the functions already, and by other definitions
    for node in (*graph.node, *(node for function in graph.library.function for node in function.node_def)):
        for name in _WHOLE:
            node.attr.pop(name, None)
        for attribute in node.attr.values():
            if attribute.HasField("func"):
                attribute.func.name += mark
    for function in graph.library.function:
        function.signature.name += mark
        function.arg_attr.clear()
        for name in _WHOLE:
            function.attr.pop(name, None)
    wrapped = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(graph, name=""), [])
    ends = [[wrapped.graph.get_tensor_by_name(t.name) for t in tensors] for tensors in (frozen.inputs, frozen.outputs)]
    return freeze_variables(wrapped.prune(*ends))


def _total(operations: list[tf.Operation]) -> int | None:
    counted = [_multiply_adds(operation) for operation in operations]
    return None if None in counted else sum(counted)
