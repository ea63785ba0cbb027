"""Parameters and multiply-adds of a built Keras network, per image."""

import concurrent.futures
import dataclasses
import math
from collections.abc import Callable

import keras


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
    params: int  # trainable
    macs: int  # multiply-adds of convolutions and dense layers; what papers print as FLOPs
    running: int = 0  # running statistics of normalisations, which some papers count as parameters


def _convolution(layer) -> int:
    """out positions x kernel x (in / groups) x out channels, i.e. positions x kernel entries."""
    positions = math.prod(layer.output.shape[1:-1])
    return positions * math.prod(layer.kernel.shape)


def _dense(layer) -> int:
    positions = math.prod(layer.output.shape[1:-1])
    return positions * math.prod(layer.kernel.shape)


COUNTERS: dict[type, Callable] = {
    keras.layers.Conv2D: _convolution,
    keras.layers.DepthwiseConv2D: _convolution,
    keras.layers.Dense: _dense,
}


def multiply_adds(layer) -> int:
    if isinstance(layer, keras.Model):
        return sum(multiply_adds(inner) for inner in layer.layers)
    for kind, counter in COUNTERS.items():
        if isinstance(layer, kind):
            return counter(layer)
    return 0


def cost(model: keras.Model) -> Cost:
    params = sum(math.prod(v.shape) for v in model.trainable_variables)
    running = sum(math.prod(v.shape) for v in model.non_trainable_variables if v.name.startswith("moving_"))
    return Cost(params=params, macs=multiply_adds(model), running=running)


def counted(build: Callable[[], keras.Model]) -> Cost:
    """The cost of what `build` builds, without making a weight, now or later.

    Keras notes, per thread, which variables a stateless scope left to be made; the note goes with the thread.
    """
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        return thread.submit(_counted, build).result()


def _counted(build: Callable[[], keras.Model]) -> Cost:
    with keras.StatelessScope(initialize_variables=False):
        return cost(build())
