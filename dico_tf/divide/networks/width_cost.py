"""Cost of a network at given widths, without building the network."""

import math
from collections.abc import Mapping
from typing import Any

import keras

from dico_tf.divide.networks.cost import NetworkCost, counter, multiply_adds, operands, total
from dico_tf.divide.networks.rebuild import at_widths, call_layer, new_config, rebuilt
from dico_tf.divide.networks.width_tracing import Axes, TracedCall, TracedNetwork
from dico_tf.divide.networks.widths import Width


class WidthCost:
    """Callable {width: size} -> NetworkCost without `running`; widths that are left out have their size in the whole.

    Each layer is built alone and without weights. Costs are cached, so that equal layers are built once.
    """

    def __init__(self, network: TracedNetwork):
        self._network = network
        self._calls = [c for c in network.calls if _has_weights(c.call.operation) or counter(c.call.operation)]
        self._kinds = {c.call.operation: _kind(c.call.operation) for c in self._calls}
        self._cache: dict[Any, tuple[int, int | None]] = {}

    def __call__(self, widths: Mapping[Width, int]) -> NetworkCost:
        costs = [(traced.call.operation, *self._cost(traced, widths)) for traced in self._calls]
        params = {operation: params for operation, params, _ in costs}  # a shared layer has its weights once
        return NetworkCost(params=sum(params.values()), macs=total([macs for *_, macs in costs]))

    def _cost(self, traced: TracedCall, widths: Mapping[Width, int]) -> tuple[int, int | None]:
        """Return (parameters, multiply-adds) of one call, from the cache if known."""
        operation = traced.call.operation
        shapes = [_shape(x, widths) for x in _tensors(traced)]
        key = (self._kinds[operation], repr(shapes), repr(new_config(self._network, operation, widths)))
        if key not in self._cache:
            self._cache[key] = self._measure(traced, widths)
        return self._cache[key]

    def _measure(self, traced: TracedCall, widths: Mapping[Width, int]) -> tuple[int, int | None]:
        """Return (parameters, multiply-adds) of one call, by building its layer at these widths."""
        operation, output = traced.call.operation, _shape(traced.outputs[0], widths)
        counted = operands(operation, traced.args, traced.kwargs) if counter(operation) else []
        shapes = [_shape(x, widths) for x in counted]
        if not _has_weights(operation):
            return 0, multiply_adds(operation, shapes, output)
        layer = rebuilt(self._network, operation, widths, {})
        args, kwargs = keras.tree.map_structure(lambda x: _symbol(x, widths), (traced.args, traced.kwargs))
        call_layer(layer, args, kwargs)
        params = sum(math.prod(variable.shape) for variable in layer.trainable_variables)
        return params, multiply_adds(layer, shapes, output)


def _has_weights(operation: Any) -> bool:
    return bool(getattr(operation, "weights", None))


def _kind(operation: Any) -> Any:
    """Return a key that is equal for layers which cost the same at the same widths."""
    if not isinstance(operation, keras.layers.Layer):
        return operation
    config = {key: value for key, value in operation.get_config().items() if key != "name"}
    return type(operation), repr(config)


def _tensors(traced: TracedCall) -> list[Axes]:
    return [x for x in keras.tree.flatten((traced.args, traced.kwargs)) if isinstance(x, Axes)]


def _shape(x: Any, widths: Mapping[Width, int]) -> tuple[int | None, ...]:
    return tuple(axis.value(widths) for axis in x.axes) if isinstance(x, Axes) else tuple(x.shape)


def _symbol(value: Any, widths: Mapping[Width, int]) -> Any:
    """Return a Keras tensor of these widths in place of `Axes`; axes within other values become sizes."""
    if not isinstance(value, Axes):
        return at_widths(value, widths)
    return keras.KerasTensor(_shape(value, widths))
