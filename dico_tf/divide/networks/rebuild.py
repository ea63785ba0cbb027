"""Networks built anew with the widths that were chosen for them."""

import math
from collections.abc import Mapping
from typing import Any

import keras

from dico_tf.divide.networks.graph import Call, copied, replay
from dico_tf.divide.networks.strip_softmax import without_softmax
from dico_tf.divide.networks.width_tracing import PAGE, Axes, Network
from dico_tf.divide.networks.widths import Axis, Width
from dico_tf.errors import UserError
from dico_tf.layers.convolution import GroupedConvolution

RATES = ("drop_path_rate", "drop_rate", "dropout_rate", "dropout", "recurrent_dropout")  # "rate", too, if named drop


def settled(value: Any, widths: Mapping[Width, int]) -> Any:
    """`value` with the branch's sizes in the place of axes."""
    if isinstance(value, Axis):
        return value.value(widths)
    if isinstance(value, tuple):
        return tuple(settled(part, widths) for part in value)
    if isinstance(value, slice):
        return slice(settled(value.start, widths), settled(value.stop, widths), value.step)
    return value


def rates(layer: Any) -> dict[str, float]:
    """The config keys by which a layer drops entries or paths."""
    if not isinstance(layer, keras.layers.Layer):
        return {}
    config = layer.get_config()
    keys = (*RATES, "rate") if "drop" in type(layer).__name__.lower() else RATES
    return {key: config[key] for key in keys if isinstance(config.get(key), float) and config[key] > 0}


def divided_rates(layer: Any, splits: int) -> dict[str, float]:
    """p / sqrt(S)"""
    return {key: rate / math.sqrt(splits) for key, rate in rates(layer).items()}


def remade(network: Network, operation: Any, widths: Mapping[Width, int], changes: Mapping[str, Any]) -> Any:
    """A layer at the widths chosen; grouped convolutions as ours, which Keras would have XLA compile."""
    settings = settled_settings(network, operation, widths)
    kind = GroupedConvolution if type(operation) is keras.layers.Conv2D and operation.groups > 1 else None
    config = {} if _takes_key(operation) else settings
    return copied(operation, {**config, **changes}, kind)


def settled_settings(network: Network, operation: Any, widths: Mapping[Width, int]) -> dict[str, Any]:
    return {key: settled(value, widths) for key, value in network.settings[operation].items()}


def _takes_key(operation: Any) -> bool:
    """x[key]: what is set is an argument of the call."""
    return type(operation).__name__ == "GetItem"


def build(network: Network, widths: Mapping[Width, int], splits: int, name: str, logits: bool = False) -> keras.Model:
    """One branch with weights of its own."""
    made: dict[Any, Any] = {}
    expected = {id(step.call.outputs[0]): step.outputs for step in network.traced}
    linear = without_softmax(network.model) if logits else {}

    def answer(call: Call, args: tuple, kwargs: dict[str, Any]) -> Any:
        operation = call.operation
        if isinstance(linear.get(operation), keras.layers.Layer):
            return linear[operation](args[0])
        if operation not in made:
            changes = {**divided_rates(operation, splits), **linear.get(operation, {})}
            made[operation] = remade(network, operation, widths, changes)
        if _takes_key(operation) and network.settings[operation]:
            args, kwargs = (args[0], settled_settings(network, operation, widths)["key"]), {}
        answer = called(made[operation], args, kwargs)
        return _foretold(operation, answer, expected[id(call.outputs[0])], widths)

    model = replay(network.model, answer, name)
    return _in_float32(model) if logits else model


def called(operation: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    try:
        return operation(*args, **kwargs)
    except Exception as error:  # whatever a layer's own code raises
        raise _unfit(operation, str(error)) from error


def _foretold(operation: Any, answer: Any, outputs: tuple[Axes, ...], widths: Mapping[Width, int]) -> Any:
    """The answer, which must be as wide as the rule said."""
    shapes = [x.shape for x in keras.tree.flatten(answer)]
    expected = [tuple(axis.value(widths) for axis in x.axes) for x in outputs]
    if shapes != expected:
        raise _unfit(operation, f"it gives {shapes} where {expected} was expected")
    return answer


def _unfit(operation: Any, why: str) -> UserError:
    kind = type(operation).__name__
    return UserError(
        f"{kind} {operation.name!r} does not work at the widths of a branch: {why}\n"
        f"Say with @narrows({kind}) how it is narrowed, see {PAGE}"
    )


def _in_float32(model: keras.Model) -> keras.Model:
    if all(x.dtype == "float32" for x in model.outputs):
        return model
    outputs = [keras.layers.Activation("linear", dtype="float32")(x) for x in model.outputs]
    return keras.Model(model.input, keras.tree.pack_sequence_as(model.output, outputs), name=model.name)
