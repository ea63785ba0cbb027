"""Read a functional or sequential Keras model as a list of calls, and copy it.

A copy has new weights; within `weightless`, these have shapes but no values.
"""

import concurrent.futures
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import keras

from dico_tf.errors import UserError
from dico_tf.layers import keras_internals

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, eq=False)
class Call:
    """One call of a layer or of a keras.ops operation. A shared layer has several calls."""

    operation: Any
    args: tuple
    kwargs: dict[str, Any]
    inputs: tuple[keras.KerasTensor, ...]
    outputs: tuple[keras.KerasTensor, ...]


@dataclasses.dataclass(frozen=True)
class FrozenLayers:
    """Names of the layers that the owner of a network froze.

    Attributes:
        frozen: layers with weights and `trainable=False`.
        inference: layers that the network calls with `training=False`.
    """

    frozen: tuple[str, ...] = ()
    inference: tuple[str, ...] = ()

    def renamed(self, names: Mapping[str, str]) -> "FrozenLayers":
        """Return the layers under new names {old: new}, without those that have no new name."""
        return FrozenLayers(
            *(tuple(names[name] for name in old if name in names) for old in (self.frozen, self.inference))
        )


def weightless(function: Callable[..., T], *arguments: Any) -> T:
    """Return `function(*arguments)`; the weights of layers that it builds have shapes, but no values and no memory.

    It runs in a thread of its own: Keras keeps, per thread, a list of variables to initialise later.
    """

    def work() -> T:
        with keras.StatelessScope(initialize_variables=False):
            return function(*arguments)

    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        return thread.submit(work).result()


def functional(model: Any) -> keras.Model:
    """Return the model if it is functional; a sequential one as a functional model of the same layers.

    Raises UserError for any other model, and for a sequential one without an input shape.
    """
    if isinstance(model, keras.Sequential):
        if not model.built:
            raise UserError(f"Sequential model {model.name!r} has no input shape yet; begin it with keras.Input(...)")
        return keras.Model(model.inputs, model.outputs[0], name=model.name)
    if not keras_internals.is_graph(model):
        raise UserError(
            f"{type(model).__name__} {getattr(model, 'name', '')!r} is not a functional or sequential Keras model, so "
            "its layers cannot be traced; build it as keras.Model(inputs, outputs)"
        )
    return model


def calls(model: keras.Model) -> Iterator[Call]:
    """Yield the calls of a model's layers and operations in the order of computation; a nested model is one call."""
    for node in keras_internals.nodes(functional(model)):
        if not node.is_input:
            arguments = node.arguments
            inputs, outputs = tuple(node.input_tensors), tuple(node.outputs)
            yield Call(node.operation, arguments.args, arguments.kwargs, inputs, outputs)


def last_weighted_layers(model: keras.Model) -> list[str]:
    """Return the names of the layers with weights that no other such layer follows on the way to an output."""
    makers = {id(tensor): call for call in calls(model) for tensor in call.outputs}
    names: dict[str, None] = {}
    tensors, seen = list(model.outputs), set()
    while tensors:
        call = makers.get(id(tensors.pop()))
        if call is None or id(call) in seen:
            continue
        seen.add(id(call))
        if getattr(call.operation, "weights", None):
            names[call.operation.name] = None
        else:
            tensors += call.inputs
    return list(names)


def in_inference(model: keras.Model) -> list[Any]:
    """Return the layers that the model calls with `training=False`, by themselves or within a nested model."""
    layers: list[Any] = []
    for call in calls(model):
        nested_model = isinstance(call.operation, keras.Model)
        if call.kwargs.get("training") is False:
            layers += keras_internals.sublayers(call.operation)
        elif nested_model:
            layers += in_inference(call.operation)
    return layers


def frozen_layers(model: keras.Model, origins: Sequence[tuple[Any, Any]]) -> FrozenLayers:
    """Return the layers that the owner of a model froze, by the names of their copies.

    Args:
        origins: the pairs (layer, its copy) of `flat_with_origins`.
    """
    names = {id(layer): copy.name for layer, copy in origins}
    frozen = (name for (layer, _), name in zip(origins, names.values(), strict=True) if _is_frozen(layer))
    inference = (names[id(layer)] for layer in in_inference(model) if id(layer) in names)
    return FrozenLayers(tuple(frozen), tuple(dict.fromkeys(inference)))


def _is_frozen(operation: Any) -> bool:
    return isinstance(operation, keras.layers.Layer) and bool(operation.weights) and not operation.trainable


def nested(model: keras.Model) -> bool:
    """Return True if a layer of the model is itself a model."""
    return any(isinstance(call.operation, keras.Model) for call in calls(model))


def _new_input(tensor: keras.KerasTensor) -> keras.KerasTensor:
    """Return a new input with the name, shape and type of an old one."""
    layer = keras_internals.producer(tensor)
    optional = getattr(layer, "optional", False)
    return keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=layer.name, optional=optional)


def replay(model: keras.Model, answer: Callable[[Call, tuple, dict], Any], name: str) -> keras.Model:
    """Build a model by repeating the calls of another one on new inputs. Nested models are flattened.

    Args:
        answer: (call, args, kwargs) -> outputs; makes each call, with the new tensors in args and kwargs.
    """
    graph = functional(model)
    inputs = keras.tree.map_structure(_new_input, graph.input)
    outputs = _run(graph, keras.tree.flatten(inputs), answer)
    return keras.Model(inputs, keras.tree.pack_sequence_as(graph.output, outputs), name=name)


def _run(graph: keras.Model, inputs: list, answer) -> list:
    tensors = {id(old): new for old, new in zip(graph.inputs, inputs, strict=True)}
    for call in calls(graph):
        args, kwargs = keras.tree.map_structure(lambda x: tensors.get(id(x), x), (call.args, call.kwargs))
        if isinstance(call.operation, keras.Model):
            inner = args[0] if args else kwargs["inputs"]
            outputs = _run(functional(call.operation), keras.tree.flatten(inner), answer)
        else:
            outputs = answer(call, args, kwargs)
        tensors.update(zip(map(id, call.outputs), keras.tree.flatten(outputs), strict=True))
    return [tensors[id(x)] for x in graph.outputs]


def flat(model: keras.Model) -> keras.Model:
    """Return a copy with new layers and weights, and the layers of nested models in place of those models.

    No layer is frozen. Seeds of initialisers and layers, and `training=False` in calls, are dropped.
    """
    return flat_with_origins(model)[0]


def flat_with_origins(model: keras.Model) -> tuple[keras.Model, list[tuple[Any, Any]]]:
    """Return `flat(model)`, and the pairs (layer or operation of the model, its copy)."""
    graph = functional(model)
    copies: dict[Any, Any] = {}
    own = {id(operation) for operation in graph.operations}
    taken = {operation.name for operation in graph.operations if not isinstance(operation, keras.Model)}

    def unique(name: str) -> str:
        """Return the name of a nested model's layer, with a number if it is taken."""
        candidates = (name, *(f"{name}_{n}" for n in range(1, len(copies) + 2)))
        chosen = next(candidate for candidate in candidates if candidate not in taken)
        taken.add(chosen)
        return chosen

    def answer(call: Call, args: tuple, kwargs: dict) -> Any:
        operation = call.operation
        if operation not in copies:
            name = operation.name if id(operation) in own else unique(operation.name)
            copies[operation] = copied(operation, {"name": name})
        # `training=False` freezes the batch statistics of a trained network; a copy is not trained.
        kwargs = {key: value for key, value in kwargs.items() if (key, value) != ("training", False)}
        return copies[operation](*args, **kwargs)

    copy = replay(graph, answer, model.name)
    copy = _named_outputs(copy, [keras_internals.producer(tensor) for tensor in graph.outputs])
    return copy, list(copies.items())


def _named_outputs(copy: keras.Model, operations: list) -> keras.Model:
    """Name each output that a nested model made after that model, by an Identity layer.

    Args:
        operations: the layer that made each output before nested models were dissolved.
    """
    named = {o: keras.layers.Identity(name=o.name) for o in operations if isinstance(o, keras.Model)}
    if not named:
        return copy
    outputs = [named[o](tensor) if o in named else tensor for o, tensor in zip(operations, copy.outputs, strict=True)]
    return keras.Model(copy.input, keras.tree.pack_sequence_as(copy.output, outputs), name=copy.name)


def copy_weights(model: keras.Model, copy: keras.Model) -> None:
    """Set the weights of a copy, and what Normalization layers derive from theirs, to those of a model."""
    copy.set_weights(model.get_weights())
    for layer in keras_internals.sublayers(copy):
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()  # it computes with tensors that set_weights leaves as they were


def copied(operation: Any, changes: dict[str, Any], kind: type | None = None) -> Any:
    """Return a new layer or operation with the config of another one and `changes`; it is not built yet.

    Seeds are dropped, and the layer is not frozen. An operation of keras.ops without a config is returned itself if
    `changes` has at most a name. Raises UserError if the config does not describe the layer.

    Args:
        kind: class of the copy; None = the same class.
    """
    try:
        config = {**operation.get_config(), **changes}
    except NotImplementedError as error:
        if changes.keys() <= {"name"} and not isinstance(operation, keras.layers.Layer):
            return operation  # it has no state, so that graphs may share it
        raise cannot_copy(operation, error) from error
    if "trainable" in config:
        config["trainable"] = True
    if isinstance(operation, keras.layers.Normalization):
        config |= _statistics(operation)
    if isinstance(operation, keras.layers.Lambda):  # Keras refuses to deserialise a lambda
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
    except Exception as error:  # a layer's own code may raise anything
        raise cannot_copy(operation, error) from error


def cannot_copy(operation: Any, error: Exception) -> UserError:
    """Return the error for a layer whose config does not describe it."""
    return UserError(
        f"{type(operation).__name__} {operation.name!r} cannot be copied from its config: {error}; "
        "give it a get_config() that names every argument of its __init__"
    )


def _statistics(layer: keras.layers.Normalization) -> dict[str, Any]:
    """Return mean and variance of an adapted layer as config keys; {} if it was not adapted.

    They belong to the data, not to the weights.
    """
    adapted = [getattr(layer, name, None) for name in ("adapt_mean", "adapt_variance")]
    if layer.input_mean is not None or any(v is None or not keras_internals.has_value(v) for v in adapted):
        return {}
    mean, variance = (v.numpy().tolist() for v in adapted)
    return {"mean": mean, "variance": variance}


def _unseeded(config: Any) -> Any:
    """Return the config with every whole number under the key `seed` replaced by None.

    With its seeds, every copy would start with the same weights.
    """
    if isinstance(config, dict):
        return {
            key: None if key == "seed" and isinstance(value, int) else _unseeded(value) for key, value in config.items()
        }
    return [_unseeded(value) for value in config] if isinstance(config, list) else config
