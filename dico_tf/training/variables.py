"""The variables of a run by stable names, for checkpoints."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from dico_tf.errors import UserError
from dico_tf.layers import keras_internals
from dico_tf.layers.embeddings import resize_positions


def weights(model) -> dict[str, Any]:
    """Return all variables of the branches, with auxiliary heads, by names like branch_0/stem_conv/kernel."""
    named = {}
    for s, learner in enumerate(model.learners):
        for layer in learner.layers:
            for name, variable in of_layer(layer).items():
                named[f"branch_{s}/{layer.name}/{name}"] = variable
    return named


def of_layer(layer: Any) -> dict[str, Any]:
    """Return the variables of a layer by distinct names."""
    return dict(zip(_names(layer), layer.variables, strict=True))


def _names(layer: Any) -> list[str]:
    """Return distinct names of a layer's variables, in their order.

    These are their own names if no two are equal, else their paths below the layer, such as "query/kernel".
    """
    names = [variable.name for variable in layer.variables]
    if len(set(names)) == len(names):
        return names
    return [variable.path.partition(f"{layer.name}/")[2] for variable in layer.variables]


def progress(model) -> dict[str, Any]:
    """Return the variables that continuing a run needs besides `weights`: counters, optimizer and running metrics."""
    named = {name: getattr(model, name) for name in ("epoch", "step", "seen")}
    for i, variable in enumerate(model.optimizer.variables):
        named[f"optimizer/{i}/{variable.name}"] = variable
    for metric in model.metrics:
        for variable in metric.variables:
            named[f"metrics/{metric.name}/{variable.name}"] = variable
    return named


def averages(model) -> dict[str, Any]:
    """Return the moving averages of the trainable variables, by the names of `weights`. Needs --ema."""
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    names = {id(variable): name for name, variable in weights(model).items()}
    moving = keras_internals.moving_averages(optimizer)
    return {names[id(v)]: average for v, average in zip(model.branch_variables, moving, strict=True)}


_RANDOM_STATE = "/seed_generator_state"  # end of names of random state, which a model does not take over


@dataclasses.dataclass(frozen=True)
class FittingWeights:
    """Arrays that fit variables of a model by name and shape.

    Attributes:
        pairs: (variable, array) by name.
        fresh: names of variables without such an array.
        unused: names of arrays without such a variable.
    """

    pairs: dict[str, tuple[Any, np.ndarray]]
    fresh: list[str]
    unused: list[str]

    def assign(self) -> None:
        """Assign the arrays to their variables."""
        for variable, array in self.pairs.values():
            variable.assign(array)


def match(model, arrays: Mapping[str, np.ndarray]) -> FittingWeights:
    """Find the arrays that fit the weights of a model by name and shape; nothing is assigned.

    Position embeddings are resized to fit. The state of random generators is left out of the result.
    """
    named = {name: variable for name, variable in weights(model).items() if not name.endswith(_RANDOM_STATE)}
    resized = {name: (v, resize_positions(v, arrays[name])) for name, v in named.items() if name in arrays}
    pairs = {name: (v, array) for name, (v, array) in resized.items() if array.shape == tuple(v.shape)}
    fresh = [name for name in named if name not in pairs]
    return FittingWeights(
        pairs, fresh, [name for name in arrays if name not in pairs and not name.endswith(_RANDOM_STATE)]
    )


def layer_of(name: str) -> str:
    """Return the layer's name in a variable's: stem_conv for branch_0/stem_conv/kernel."""
    return name.split("/")[1]


def values(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the values of named variables as arrays."""
    return {name: np.asarray(variable.numpy()) for name, variable in variables.items()}


def size(variables: Mapping[str, Any]) -> int:
    """Return the total size in bytes, without reading values."""
    return sum(math.prod(v.shape) * np.dtype(v.dtype).itemsize for v in variables.values())


def assign(variables: Mapping[str, Any], arrays: Mapping[str, np.ndarray], origin: str) -> None:
    """Assign arrays to variables of the same names and shapes.

    Raises UserError before the first assignment if any name or shape differs; the message calls the arrays `origin`.
    """
    missing = sorted(set(variables) - set(arrays))
    unknown = sorted(set(arrays) - set(variables))
    shapes = [
        f"{name} is {arrays[name].shape}, expected {tuple(v.shape)}"
        for name, v in variables.items()
        if name in arrays and tuple(arrays[name].shape) != tuple(v.shape)
    ]
    faults = [f"{n} is missing" for n in missing] + [f"{n} is unknown" for n in unknown] + shapes
    if faults:
        more = f" (and {len(faults) - 3} more)" if len(faults) > 3 else ""
        raise UserError(
            f"{origin} belongs to another network or optimizer: {'; '.join(faults[:3])}{more}: restore the files of "
            "this run"
        )
    for name, variable in variables.items():
        variable.assign(arrays[name])
