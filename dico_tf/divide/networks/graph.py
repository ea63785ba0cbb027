"""A functional or sequential Keras model as calls of operations in order, and copies of it without weights."""

import concurrent.futures
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import keras

from dico_tf.errors import UserError
from dico_tf.layers import keras_internals

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, eq=False)
class Call:
    """One call of a layer or of an operation of keras.ops; a layer that is shared has several."""

    operation: Any
    args: tuple
    kwargs: dict[str, Any]
    inputs: tuple[keras.KerasTensor, ...]
    outputs: tuple[keras.KerasTensor, ...]


def weightless(function: Callable[..., T], *arguments: Any) -> T:
    """`function(*arguments)` where layers are built but no weight is made, now or later.

    Keras notes, per thread, which variables a stateless scope left to be made; the note goes with the thread.
    """

    def work() -> T:
        with keras.StatelessScope(initialize_variables=False):
            return function(*arguments)

    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        return thread.submit(work).result()


def functional(model: Any) -> keras.Model:
    """The model as a graph of calls; a sequential one becomes the chain it is."""
    if isinstance(model, keras.Sequential):
        if not model.built:
            raise UserError(f"Sequential model {model.name!r} has no shape yet; begin it with keras.Input(...)")
        return keras.Model(model.inputs, model.outputs[0], name=model.name)
    if not keras_internals.is_graph(model):
        raise UserError(
            f"{type(model).__name__} {getattr(model, 'name', '')!r} is no functional or sequential Keras model, so its "
            "layers cannot be followed; build it as keras.Model(inputs, outputs)"
        )
    return model


def calls(model: keras.Model) -> Iterator[Call]:
    """Every call between inputs and outputs, in the order in which it can be computed."""
    for node in keras_internals.nodes(functional(model)):
        if not node.is_input:
            given = node.arguments
            yield Call(node.operation, given.args, given.kwargs, tuple(node.input_tensors), tuple(node.outputs))


def nested(model: keras.Model) -> bool:
    return any(isinstance(call.operation, keras.Model) for call in calls(model))


def _entrance(tensor: keras.KerasTensor) -> keras.KerasTensor:
    layer = keras_internals.producer(tensor)
    optional = getattr(layer, "optional", False)
    return keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=layer.name, optional=optional)


def replay(model: keras.Model, answer: Callable[[Call, tuple, dict], Any], name: str) -> keras.Model:
    """The model's calls on new inputs, each answered by `answer(call, args, kwargs)`; models within it dissolve."""
    graph = functional(model)
    inputs = keras.tree.map_structure(_entrance, graph.input)
    outputs = _run(graph, keras.tree.flatten(inputs), answer)
    return keras.Model(inputs, keras.tree.pack_sequence_as(graph.output, outputs), name=name)


def _run(graph: keras.Model, inputs: list, answer) -> list:
    tensors = {id(old): new for old, new in zip(graph.inputs, inputs, strict=True)}
    for call in calls(graph):
        args, kwargs = keras.tree.map_structure(lambda x: tensors.get(id(x), x), (call.args, call.kwargs))
        if isinstance(call.operation, keras.Model):
            given = args[0] if args else kwargs["inputs"]
            outputs = _run(functional(call.operation), keras.tree.flatten(given), answer)
        else:
            outputs = answer(call, args, kwargs)
        tensors.update(zip(map(id, call.outputs), keras.tree.flatten(outputs), strict=True))
    return [tensors[id(x)] for x in graph.outputs]


def flat(model: keras.Model) -> keras.Model:
    """A copy with new layers and no model within it. Nothing in it is frozen: a copy starts with weights of its own."""
    graph = functional(model)
    copies: dict[int, Any] = {}
    own = {id(operation) for operation in graph.operations}
    taken = {operation.name for operation in graph.operations if not isinstance(operation, keras.Model)}

    def named(name: str) -> str:
        """A layer of a model within keeps its name unless another has it."""
        candidates = (name, *(f"{name}_{n}" for n in range(1, len(copies) + 2)))
        chosen = next(candidate for candidate in candidates if candidate not in taken)
        taken.add(chosen)
        return chosen

    def answer(call: Call, args: tuple, kwargs: dict) -> Any:
        operation = call.operation
        if id(operation) not in copies:
            name = operation.name if id(operation) in own else named(operation.name)
            copies[id(operation)] = copied(operation, {"name": name})
        # `training=False` keeps the normalisation of a network that was trained before; a copy is not.
        kwargs = {key: value for key, value in kwargs.items() if (key, value) != ("training", False)}
        return copies[id(operation)](*args, **kwargs)

    copy = replay(graph, answer, model.name)
    return _named_outputs(copy, [keras_internals.producer(tensor) for tensor in graph.outputs])


def _named_outputs(copy: keras.Model, operations: list) -> keras.Model:
    """Outputs that a model within gave keep its name."""
    named = {o: keras.layers.Identity(name=o.name) for o in operations if isinstance(o, keras.Model)}
    if not named:
        return copy
    outputs = [named[o](tensor) if o in named else tensor for o, tensor in zip(operations, copy.outputs, strict=True)]
    return keras.Model(copy.input, keras.tree.pack_sequence_as(copy.output, outputs), name=copy.name)


def copied(operation: Any, changes: dict[str, Any], kind: type | None = None) -> Any:
    """A new layer or operation from the old one's config with `changes`, its weights yet to be drawn."""
    try:
        config = {**operation.get_config(), **changes}
    except NotImplementedError as error:
        if changes.keys() <= {"name"} and not isinstance(operation, keras.layers.Layer):
            return operation  # without state: one serves every graph
        raise cannot_copy(operation, error) from error
    if "trainable" in config:
        config["trainable"] = True
    if isinstance(operation, keras.layers.Normalization):
        config |= _statistics(operation)
    if isinstance(operation, keras.layers.Lambda):  # Keras refuses to read a lambda back
        return keras.layers.Lambda(
            operation.function,
            keras_internals.lambda_output_shape(operation),
            operation.mask,
            operation.arguments,
            name=config["name"],
            dtype=operation.dtype_policy,
        )
    try:
        return (kind or type(operation)).from_config(_unseeded(config))
    except Exception as error:  # whatever a layer's own code raises
        raise cannot_copy(operation, error) from error


def cannot_copy(operation: Any, error: Exception) -> UserError:
    return UserError(
        f"{type(operation).__name__} {operation.name!r} cannot be made anew from its config: {error}; "
        "give it a get_config() that names every argument of its __init__"
    )


def _statistics(layer: keras.layers.Normalization) -> dict[str, Any]:
    """What `adapt` learnt is a fact of the data, not a weight to be drawn again."""
    learnt = [getattr(layer, name, None) for name in ("adapt_mean", "adapt_variance")]
    if layer.input_mean is not None or any(v is None or not keras_internals.has_value(v) for v in learnt):
        return {}
    mean, variance = (v.numpy().tolist() for v in learnt)
    return {"mean": mean, "variance": variance}


def _unseeded(config: Any) -> Any:
    """Without seeds: with them every copy would draw the same weights."""
    if isinstance(config, dict):
        return {
            key: None if key == "seed" and isinstance(value, int) else _unseeded(value) for key, value in config.items()
        }
    return [_unseeded(value) for value in config] if isinstance(config, list) else config
