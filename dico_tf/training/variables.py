"""Every variable of a run under a stable name."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from dico_tf.errors import UserError
from dico_tf.layers import keras_internals


def weights(model) -> dict[str, Any]:
    """Variables of the branches as branch_0/stem_conv/kernel: what is needed to answer."""
    named = {}
    for s, learner in enumerate(model.learners):
        for layer in learner.layers:
            for variable in layer.variables:
                named[f"branch_{s}/{layer.name}/{variable.name}"] = variable
    return named


def progress(model) -> dict[str, Any]:
    """Counters, optimizer and running means: what is needed to go on."""
    named = {name: getattr(model, name) for name in ("epoch", "step", "seen")}
    for i, variable in enumerate(model.optimizer.variables):
        named[f"optimizer/{i}/{variable.name}"] = variable
    for metric in model.metrics:
        for variable in metric.variables:
            named[f"metrics/{metric.name}/{variable.name}"] = variable
    return named


def averages(model) -> dict[str, Any]:
    """The moving average of each trainable variable, under the names of `weights`."""
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    names = {id(variable): name for name, variable in weights(model).items()}
    moving = keras_internals.moving_averages(optimizer)
    return {names[id(v)]: average for v, average in zip(model.branch_variables, moving, strict=True)}


def values(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {name: np.asarray(variable.numpy()) for name, variable in variables.items()}


def size(variables: Mapping[str, Any]) -> int:
    """Bytes, without reading a value."""
    return sum(math.prod(v.shape) * np.dtype(v.dtype).itemsize for v in variables.values())


def assign(variables: Mapping[str, Any], arrays: Mapping[str, np.ndarray], origin: str) -> None:
    """All or nothing: names and shapes are compared before the first assignment."""
    missing = sorted(set(variables) - set(arrays))
    foreign = sorted(set(arrays) - set(variables))
    shapes = [
        f"{name} is {arrays[name].shape}, not {tuple(v.shape)}"
        for name, v in variables.items()
        if name in arrays and tuple(arrays[name].shape) != tuple(v.shape)
    ]
    faults = [f"{n} is missing" for n in missing] + [f"{n} is foreign" for n in foreign] + shapes
    if faults:
        more = f" (and {len(faults) - 3} more)" if len(faults) > 3 else ""
        raise UserError(f"{origin} is of another network: {'; '.join(faults[:3])}{more}")
    for name, variable in variables.items():
        variable.assign(arrays[name])
