"""Undocumented parts of Keras, which no other module uses. Each function wraps one of them.

`TRIED` are the Keras versions that tests/layers/test_keras_internals.py has passed with.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
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


def parameters(model: keras.Model) -> list[keras.Variable]:
    """Return the trainable variables, also of layers frozen by `trainable=False`, but no moving means or variances."""
    return list({id(v): v for layer in sublayers(model) for v in layer._trainable_variables}.values())


def moving_averages(optimizer: keras.optimizers.Optimizer) -> Sequence[keras.Variable]:
    """Return the moving averages of the weights with `use_ema=True`, in the order of the trainable variables.

    Keras offers them in public only by overwriting the weights.
    """
    return optimizer._model_variables_moving_average


def slot(optimizer: keras.optimizers.Optimizer, variable: keras.Variable) -> int:
    """Return the index from 0 of a variable among those that the optimizer was built for."""
    return optimizer._get_variable_index(variable)


def scale_steps(optimizer: keras.optimizers.Optimizer, factor: Callable[[int], float]) -> None:
    """Let an optimizer move each variable by `factor` times its usual step and decoupled weight decay.

    Averages of gradients, such as Adam's, are updated as usual. The optimizer's step must be proportional to its
    learning rate, as in all optimizers of Keras except Ftrl. With mixed_float16, the optimizer inside is scaled.

    Args:
        factor: index of a variable (see `slot`) -> factor of at least 0; it is called when a step is traced.
    """
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    step, decay = (
        functools.partial(getattr(type(inner), name), inner) for name in ("update_step", "_apply_weight_decay")
    )

    def update_step(gradient, variable, learning_rate):
        step(gradient, variable, learning_rate * factor(slot(inner, variable)))

    def apply_weight_decay(variables):
        rate = inner.weight_decay
        if rate is None:
            return
        factors = [factor(slot(inner, variable)) for variable in variables]
        try:
            for each in sorted(set(factors) - {0.0}):
                inner.weight_decay = rate * each
                decay([variable for variable, own in zip(variables, factors, strict=True) if own == each])
        finally:
            inner.weight_decay = rate

    inner.step_factor, inner.update_step, inner._apply_weight_decay = factor, update_step, apply_weight_decay


def infer_while(layer: keras.layers.Layer, applies: Callable[[], bool]) -> None:
    """Let a layer compute as in inference, also in training, while `applies()` is true when a step is traced."""
    call = functools.partial(type(layer).call, layer)

    def as_in_inference(*args, training=None, **kwargs):
        return call(*args, training=training and not applies(), **kwargs)

    layer.call = as_in_inference


def takes_training(layer: keras.layers.Layer) -> bool:
    """Return True if a layer computes differently in training, by an argument `training` of its call."""
    return getattr(layer, "_call_has_training_arg", False)


class OptimizerWithOwnDecay(keras.optimizers.Optimizer):
    """Base of optimizers that clip gradients in `limited` and apply weight decay in their own `update_step`."""

    def step_factor(self, slot: int) -> float:
        """Return the factor of a variable's steps: 1, unless `scale_steps` has replaced this method."""
        return 1.0

    def limited(self, gradients: list, variables: list) -> list:
        """Return the gradients that the updates use, here unchanged; subclasses clip them."""
        return gradients

    def _apply_weight_decay(self, variables):
        """Do nothing, where Keras would decay all variables: the subclass decays them in `update_step`."""

    def _backend_apply_gradients(self, gradients, variables):
        super()._backend_apply_gradients(self.limited(gradients, variables), variables)
