"""TensorFlow functions: called on arrays, and counted from their graphs."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from dico_tf.evaluation.cost import Cost

_KERNELS = {"Conv2D": -1, "DepthwiseConv2dNative": -1, "Conv3D": -1, "MatMul": 0, "BatchMatMulV2": 0, "Einsum": 0}
_CALLS = ("PartitionedCall", "StatefulPartitionedCall", "While", "StatelessWhile", "If", "StatelessIf")


def compiled(call: Callable[[tf.Tensor], tf.Tensor]) -> Callable[[np.ndarray], np.ndarray]:
    """The network as one graph for every number of images; float32 [B, outputs]."""
    forward = tf.function(call, reduce_retracing=True, autograph=False)
    return lambda images: np.asarray(tf.cast(forward(tf.constant(images)), tf.float32))


def cost(call: Callable[[tf.Tensor], Any], side: int, kind: tf.DType, variables: list, batch: int = 1) -> Cost:
    """Multiply-adds of one image, and trained parameters; what cannot be counted is not known rather than too little.

    Variables are made constants for this, which takes the memory of the network once more.
    """
    image = tf.TensorSpec((batch, side, side, 3), kind)
    try:
        frozen = convert_variables_to_constants_v2(tf.function(call).get_concrete_function(image))
        operations = frozen.graph.get_operations()
        counted = [_multiply_adds(operation) for operation in operations]
    except Exception:  # custom operations and tables fail each in their own way
        return Cost(params=_parameters(variables, ()))
    macs = math.nan if None in counted else float(sum(counted)) / batch
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
    if operation.type in _CALLS:
        return 0 if not any(_counts(operation)) else None
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


def _counts(operation: tf.Operation) -> Iterator[bool]:
    """Of each operation within the functions that one calls, whether it multiplies."""
    names = [
        operation.get_attr(key).name for key in ("f", "body", "then_branch", "else_branch") if _has(operation, key)
    ]
    for function in operation.graph.as_graph_def().library.function:
        if function.signature.name in names:
            yield from (node.op in _KERNELS or node.op in _CALLS for node in function.node_def)


def _has(operation: tf.Operation, key: str) -> bool:
    return key in operation.node_def.attr
