"""Turn a classifier that returns probabilities into one that returns logits."""

from collections.abc import Iterator
from typing import Any

import keras

from dico_tf.divide.networks.graph import Call, calls

PASSES = (keras.layers.Flatten, keras.layers.Reshape, keras.layers.Identity)  # softmax commutes with them


def softmax_replacements(model: keras.Model) -> dict[Any, Any]:
    """Return the changes that make a model return float32 logits: {operation: a new layer, or {config key: value}}.

    For each output, they begin at the last layer other than Flatten, Reshape, Identity and linear activations. If this
    layer is or has a softmax, it becomes linear. It and the layers after it compute in float32.
    """
    replacements: dict[Any, Any] = {}
    for chain in _endings(model):
        for call in chain:
            replacements[call.operation], go_on = _replacement(call.operation)
            if not go_on:
                break
    return replacements


def unsupported_activation(model: keras.Model) -> str:
    """Return the name of an output layer's `activation` that is neither softmax nor linear, such as "sigmoid".

    Flatten, Reshape and Identity layers after it do not count. "" if no output has such an activation.
    """
    for chain in _endings(model):
        operation = next((call.operation for call in chain if not isinstance(call.operation, PASSES)), None)
        activation = getattr(operation, "activation", None)
        if activation not in (None, keras.activations.softmax, keras.activations.linear):
            return getattr(activation, "__name__", str(activation))
    return ""


def _endings(model: keras.Model) -> Iterator[Iterator[Call]]:
    """Yield, for each output, the calls that made it, the last first, along their first inputs."""
    makers = {id(tensor): call for call in calls(model) for tensor in call.outputs}

    def chain(tensor: Any) -> Iterator[Call]:
        while (call := makers.get(id(tensor))) is not None:
            yield call
            tensor = call.inputs[0]

    return map(chain, model.outputs)


def _replacement(operation: Any) -> tuple[Any, bool]:
    """Return the change of one operation, and True if the operation before may have a softmax.

    The change is a new layer, or {config key: value}; {} if there is none.
    """
    softmax = getattr(operation, "activation", None) is keras.activations.softmax
    if type(operation).__name__ == "Softmax" or (softmax and isinstance(operation, keras.layers.Activation)):
        return keras.layers.Activation("linear", name=operation.name, dtype="float32"), False
    if not isinstance(operation, keras.layers.Layer):
        return {}, False
    linear = getattr(operation, "activation", None) is keras.activations.linear and not operation.weights
    changes = {"dtype": "float32"} | ({"activation": "linear"} if softmax else {})
    return changes, isinstance(operation, PASSES) or linear
