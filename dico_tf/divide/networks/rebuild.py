"""Build a branch: the network's layers from their configs, with the widths of the branch."""

import math
from collections.abc import Mapping
from typing import Any

import keras

from dico_tf.divide.networks.graph import Call, copied, replay
from dico_tf.divide.networks.strip_softmax import softmax_replacements
from dico_tf.divide.networks.width_tracing import PAGE, Axes, TracedNetwork
from dico_tf.divide.networks.widths import Axis, Width
from dico_tf.errors import UserError
from dico_tf.layers.convolution import GroupedConvolution

# Config keys of drop rates. "rate" is one too, in layers whose class name contains "drop".
RATES = ("drop_path_rate", "drop_rate", "dropout_rate", "dropout", "recurrent_dropout")


def at_widths(value: Any, widths: Mapping[Width, int]) -> Any:
    """Return `value` with each `Axis`, also those in tuples and slices, replaced by its size at these widths."""
    if isinstance(value, Axis):
        return value.value(widths)
    if isinstance(value, tuple):
        return tuple(at_widths(part, widths) for part in value)
    if isinstance(value, slice):
        return slice(at_widths(value.start, widths), at_widths(value.stop, widths), value.step)
    return value


def rates(layer: Any) -> dict[str, float]:
    """Return {config key: drop rate} of the positive drop rates in a layer's config; {} if there are none."""
    if not isinstance(layer, keras.layers.Layer):
        return {}
    config = layer.get_config()
    keys = (*RATES, "rate") if "drop" in type(layer).__name__.lower() else RATES
    return {key: config[key] for key in keys if isinstance(config.get(key), float) and config[key] > 0}


def divided_rates(layer: Any, splits: int) -> dict[str, float]:
    """Return `rates(layer)` with each rate divided by sqrt(S)."""
    return {key: rate / math.sqrt(splits) for key, rate in rates(layer).items()}


def rebuilt(network: TracedNetwork, operation: Any, widths: Mapping[Width, int], changes: Mapping[str, Any]) -> Any:
    """Return a copy of a layer or operation at these widths, with `changes` to its config; it is not built yet.

    A grouped Conv2D becomes a GroupedConvolution: Keras would compile it with XLA.
    """
    kind = GroupedConvolution if type(operation) is keras.layers.Conv2D and operation.groups > 1 else None
    config = {} if _sets_argument(operation) else new_config(network, operation, widths)
    return copied(operation, {**config, **changes}, kind)


def new_config(network: TracedNetwork, operation: Any, widths: Mapping[Width, int]) -> dict[str, Any]:
    """Return the config keys that narrowing an operation changes, with their values at these widths."""
    return {key: at_widths(value, widths) for key, value in network.new_configs[operation].items()}


def _sets_argument(operation: Any) -> bool:
    """Return True if the operation is x[key]: its `key` is an argument of the call and not in the config."""
    return type(operation).__name__ == "GetItem"


def build(
    network: TracedNetwork, widths: Mapping[Width, int], splits: int, name: str, logits: bool = False
) -> keras.Model:
    """Build one branch with new weights and with drop rates divided by sqrt(`splits`).

    With `logits`, it has no final softmax and its outputs are float32.

    Raises:
        UserError: if a layer does not work at these widths.
    """
    copies: dict[Any, Any] = {}
    expected = {id(traced.call.outputs[0]): traced.outputs for traced in network.calls}
    replacements = softmax_replacements(network.model) if logits else {}

    def answer(call: Call, args: tuple, kwargs: dict[str, Any]) -> Any:
        operation = call.operation
        if isinstance(replacements.get(operation), keras.layers.Layer):
            return replacements[operation](args[0])
        if operation not in copies:
            changes = {**divided_rates(operation, splits), **replacements.get(operation, {})}
            copies[operation] = rebuilt(network, operation, widths, changes)
        if _sets_argument(operation) and network.new_configs[operation]:
            args, kwargs = (args[0], new_config(network, operation, widths)["key"]), {}
        answer = call_layer(copies[operation], args, kwargs)
        return _checked(operation, answer, expected[id(call.outputs[0])], widths)

    model = replay(network.model, answer, name)
    return _in_float32(model) if logits else model


def call_layer(operation: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """Call a layer; an error in its own code becomes a UserError that names it."""
    try:
        return operation(*args, **kwargs)
    except Exception as error:
        raise _does_not_fit(operation, str(error)) from error


def _checked(operation: Any, answer: Any, outputs: tuple[Axes, ...], widths: Mapping[Width, int]) -> Any:
    """Return the layer's output `answer` if its shapes are those that the rule predicted, else raise UserError."""
    shapes = [x.shape for x in keras.tree.flatten(answer)]
    expected = [tuple(axis.value(widths) for axis in x.axes) for x in outputs]
    if shapes != expected:
        raise _does_not_fit(operation, f"expected outputs of {expected}, got {shapes}")
    return answer


def _does_not_fit(operation: Any, why: str) -> UserError:
    kind = type(operation).__name__
    remedy = (
        f"Register a rule with @narrows({kind})"
        if isinstance(operation, keras.layers.Layer)
        else "Put it into a layer and register a rule with @narrows"
    )
    return UserError(f"{kind} {operation.name!r} does not work at the widths of a branch: {why}\n{remedy}, see {PAGE}")


def _in_float32(model: keras.Model) -> keras.Model:
    if all(x.dtype == "float32" for x in model.outputs):
        return model
    outputs = [keras.layers.Activation("linear", dtype="float32")(x) for x in model.outputs]
    return keras.Model(model.input, keras.tree.pack_sequence_as(model.output, outputs), name=model.name)
