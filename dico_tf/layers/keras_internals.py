"""The only module that uses what Keras does not document. Each function does one thing with it.

`TRIED` are the Keras versions that tests/layers/test_keras_internals.py has passed with.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import keras

TRIED = ("3.15.1",)


def is_graph(model: Any) -> bool:
    """Return True for a model that keeps its calls as a graph (functional), False for a subclassed one."""
    return hasattr(model, "_nodes_by_depth")


def nodes(model: keras.Model) -> Iterator[Any]:
    """Yield the nodes of a functional model in the order in which they can be computed."""
    by_depth = model._nodes_by_depth
    for depth in sorted(by_depth, reverse=True):
        yield from by_depth[depth]


def producer(tensor: keras.KerasTensor) -> Any:
    """Return the layer or operation that a symbolic tensor comes from."""
    return tensor._keras_history.operation


def lambda_output_shape(layer: keras.layers.Lambda) -> Any:
    """Return the `output_shape` that a Lambda layer was constructed with."""
    return layer._output_shape


def has_value(variable: keras.Variable) -> bool:
    """Return False for a variable whose value Keras has yet to create."""
    return variable._value is not None


def sublayers(model: keras.Model) -> list[keras.layers.Layer]:
    """Return the model and all layers within it, at any depth."""
    return list(model._flatten_layers())


def moving_averages(optimizer: keras.optimizers.Optimizer) -> Sequence[keras.Variable]:
    """Return the moving averages that `use_ema=True` keeps, in the order of the trainable variables.

    Keras offers them in public only by overwriting the weights.
    """
    return optimizer._model_variables_moving_average


def slot(optimizer: keras.optimizers.Optimizer, variable: keras.Variable) -> int:
    """Return the place of a variable among those the optimizer was built for."""
    return optimizer._get_variable_index(variable)


class OptimizerWithOwnDecay(keras.optimizers.Optimizer):
    """Base of optimizers that limit gradients and apply weight decay within their own update."""

    def limited(self, gradients: list, variables: list) -> list:
        """Return the gradients that the updates use. Subclasses clip here."""
        return gradients

    def _apply_weight_decay(self, variables):
        """Keras would decay all variables here; the subclass does it in `update_step`."""

    def _backend_apply_gradients(self, gradients, variables):
        super()._backend_apply_gradients(self.limited(gradients, variables), variables)
