"""A classifier that answers logits: what to leave out of one that answers probabilities."""

from typing import Any

import keras

from dico_tf.divide.networks.graph import Call, calls

PASSES = (keras.layers.Flatten, keras.layers.Reshape, keras.layers.Identity)  # softmax commutes with them


def without_softmax(model: keras.Model) -> dict[Any, Any]:
    """For every operation to change: a layer to stand in its place, or the config keys to change.

    A final softmax, be it a layer or an activation, gives way to the identity; the last layers compute in float32.
    """
    makers = {id(tensor): call for call in calls(model) for tensor in call.outputs}
    found: dict[Any, Any] = {}
    for tensor in model.outputs:
        call: Call | None = makers.get(id(tensor))
        while call is not None:
            found[call.operation], goes_on = _changes(call.operation)
            call = makers.get(id(call.inputs[0])) if goes_on else None
    return found


def foreign_ending(model: keras.Model) -> str:
    """The activation at the end that is neither softmax nor none, such as sigmoid; "" where there is none."""
    makers = {id(tensor): call for call in calls(model) for tensor in call.outputs}
    for tensor in model.outputs:
        call: Call | None = makers.get(id(tensor))
        while call is not None and isinstance(call.operation, PASSES):
            call = makers.get(id(call.inputs[0]))
        activation = getattr(call.operation, "activation", None) if call else None
        if activation not in (None, keras.activations.softmax, keras.activations.linear):
            return getattr(activation, "__name__", str(activation))
    return ""


def _changes(operation: Any) -> tuple[Any, bool]:
    """What to do about an operation, and whether the one before it may hold a softmax still."""
    softmax = getattr(operation, "activation", None) is keras.activations.softmax
    if type(operation).__name__ == "Softmax" or (softmax and isinstance(operation, keras.layers.Activation)):
        return keras.layers.Activation("linear", name=operation.name, dtype="float32"), False
    if not isinstance(operation, keras.layers.Layer):
        return {}, False
    linear = getattr(operation, "activation", None) is keras.activations.linear and not operation.weights
    changes = {"dtype": "float32"} | ({"activation": "linear"} if softmax else {})
    return changes, isinstance(operation, PASSES) or linear
