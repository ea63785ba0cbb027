"""Undocumented parts of Keras, which no other module uses. Each function wraps one of them.

`TRIED` are the Keras versions that tests/layers/test_keras_internals.py has passed with.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import keras

TRIED = ("3.15.1",)


def is_graph(model: Any) -> bool:
    """Return True for a functional model, which keeps its calls as a graph; False for any other."""
    return hasattr(model, "_nodes_by_depth")


def nodes(model: keras.Model) -> Iterator[Any]:
    """Yield Keras' nodes (inputs and calls) of a functional model in the order in which they can be computed."""
    by_depth = model._nodes_by_depth
    for depth in sorted(by_depth, reverse=True):
        yield from by_depth[depth]


def producer(tensor: keras.KerasTensor) -> Any:
    """Return the layer or operation whose output a symbolic tensor is."""
    return tensor._keras_history.operation


def lambda_output_shape(layer: keras.layers.Lambda) -> Any:
    """Return the `output_shape` that a Lambda layer was constructed with."""
    return layer._output_shape


def has_value(variable: keras.Variable) -> bool:
    """Return True if Keras has created the variable's value already."""
    return variable._value is not None


def sublayers(model: keras.Model) -> list[keras.layers.Layer]:
    """Return the model and all layers within it, at any depth."""
    return list(model._flatten_layers())


def moving_averages(optimizer: keras.optimizers.Optimizer) -> Sequence[keras.Variable]:
    """Return the moving averages of the weights with `use_ema=True`, in the order of the trainable variables.

    Keras offers them in public only by overwriting the weights.
    """
    return optimizer._model_variables_moving_average


def slot(optimizer: keras.optimizers.Optimizer, variable: keras.Variable) -> int:
    """Return the index from 0 of a variable among those that the optimizer was built for."""
    return optimizer._get_variable_index(variable)


class OptimizerWithOwnDecay(keras.optimizers.Optimizer):
    """Base of optimizers that clip gradients in `limited` and apply weight decay in their own `update_step`."""

    def limited(self, gradients: list, variables: list) -> list:
        """Return the gradients that the updates use, here unchanged; subclasses clip them."""
        return gradients

    def _apply_weight_decay(self, variables):
        """Do nothing, where Keras would decay all variables: the subclass decays them in `update_step`."""

    def _backend_apply_gradients(self, gradients, variables):
        super()._backend_apply_gradients(self.limited(gradients, variables), variables)
