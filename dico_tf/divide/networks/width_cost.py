"""What a network costs at widths not built yet: each layer is built alone and without weights, equal ones once."""

import math
from collections.abc import Mapping
from typing import Any

import keras

from dico_tf.divide.networks.cost import Cost, counter, multiply_adds, operands, total
from dico_tf.divide.networks.rebuild import called, remade, settled, settled_settings
from dico_tf.divide.networks.width_tracing import Axes, Network, Traced
from dico_tf.divide.networks.widths import Width


class Prices:
    """prices(widths) -> Cost"""

    def __init__(self, network: Network):
        self._network = network
        self._priced = [t for t in network.traced if _weights(t.call.operation) or counter(t.call.operation)]
        self._kinds = {t.call.operation: _kind(t.call.operation) for t in self._priced}
        self._known: dict[Any, tuple[int, int | None]] = {}

    def __call__(self, widths: Mapping[Width, int]) -> Cost:
        found = [(step.call.operation, *self._of(step, widths)) for step in self._priced]
        params = {operation: params for operation, params, _ in found}  # a shared layer has its weights once
        return Cost(params=sum(params.values()), macs=total([macs for *_, macs in found]))

    def _of(self, step: Traced, widths: Mapping[Width, int]) -> tuple[int, int | None]:
        operation = step.call.operation
        shapes = [_shape(x, widths) for x in _tensors(step)]
        settings = settled_settings(self._network, operation, widths)
        key = (self._kinds[operation], repr(shapes), repr(settings))
        if key not in self._known:
            self._known[key] = self._measured(step, widths)
        return self._known[key]

    def _measured(self, step: Traced, widths: Mapping[Width, int]) -> tuple[int, int | None]:
        operation, output = step.call.operation, _shape(step.outputs[0], widths)
        counted = operands(operation, step.args, step.kwargs) if counter(operation) else []
        shapes = [_shape(x, widths) for x in counted]
        if not _weights(operation):
            return 0, multiply_adds(operation, shapes, output)
        layer = remade(self._network, operation, widths, {})
        args, kwargs = keras.tree.map_structure(lambda x: _symbol(x, widths), (step.args, step.kwargs))
        called(layer, args, kwargs)
        params = sum(math.prod(variable.shape) for variable in layer.trainable_variables)
        return params, multiply_adds(layer, shapes, output)


def _weights(operation: Any) -> bool:
    return bool(getattr(operation, "weights", None))


def _kind(operation: Any) -> Any:
    """Layers of one kind cost the same at the same widths."""
    if not isinstance(operation, keras.layers.Layer):
        return operation
    config = {key: value for key, value in operation.get_config().items() if key != "name"}
    return type(operation), repr(config)


def _tensors(step: Traced) -> list[Axes]:
    return [x for x in keras.tree.flatten((step.args, step.kwargs)) if isinstance(x, Axes)]


def _shape(x: Any, widths: Mapping[Width, int]) -> tuple[int | None, ...]:
    return tuple(axis.value(widths) for axis in x.axes) if isinstance(x, Axes) else tuple(x.shape)


def _symbol(value: Any, widths: Mapping[Width, int]) -> Any:
    if not isinstance(value, Axes):
        return settled(value, widths)
    return keras.KerasTensor(_shape(value, widths))
