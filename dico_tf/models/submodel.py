"""Submodels: a network that was trained with dropped residual branches, run without some of them."""

import itertools
import re
from collections.abc import Collection

import keras

from dico_tf.divide.networks.graph import Call, replay
from dico_tf.errors import UserError
from dico_tf.layers.stochastic_depth import PutBack, droppings

_BLOCK = re.compile(r".*?block\d+")


def droppable(network: keras.Model) -> list[str]:
    """Return the names of the residual branches that training drops, in the order of the graph."""
    return [layer.name.removesuffix("_taken") for layer in droppings(network)]


def blocks(network: keras.Model) -> list[list[str]]:
    """Return the names of the residual branches that training drops, block by block."""
    return [list(group) for _, group in itertools.groupby(droppable(network), _block)]


def _block(name: str) -> str:
    match = _BLOCK.match(name)
    return match[0] if match else name


def without(network: keras.Model, removed: Collection[str]) -> keras.Model:
    """Return the network without the residual branches `removed`. It shares its layers and weights with `network`.

    The removed branches are not computed. If k of n droppable branches stay, each is multiplied by n / k to make up
    for the others, as training multiplies by 1 / (1 - drop rate). Raises UserError if a name is unknown
    or none would stay.
    """
    every = droppable(network)
    strangers = sorted(set(removed) - set(every))
    if strangers:
        raise UserError(
            f"{network.name} has no droppable branch {strangers[0]!r}; give names that droppable(network) returns"
        )
    if len(set(removed)) >= len(every):
        raise UserError(
            f"{network.name} cannot answer without {len(set(removed))} residual branches: it has only {len(every)} "
            "droppable ones, and one must stay"
        )
    scale = len(every) / (len(every) - len(set(removed)))

    def answer(call: Call, args: tuple, kwargs: dict):
        if not isinstance(call.operation, PutBack):
            return call.operation(*args, **kwargs)
        x, share, *rest = args
        name = call.operation.name.removesuffix("_put_back")
        if name in removed:
            return x
        if removed:
            share = keras.layers.Rescaling(scale, name=f"{name}_for_all")(share)
        return call.operation(x, share, *rest, **kwargs)

    return replay(network, answer, network.name)


def shorter(network: keras.Model, count: int) -> keras.Model:
    """Return the network with `count` of its n droppable blocks, spread evenly, the others removed as by `without`.

    Raises UserError unless count is 1 to n.
    """
    every = blocks(network)
    if not 0 < count <= len(every):
        reason = (
            f"it has {len(every)} that can be dropped; give 1 to {len(every)}"
            if every
            else "none of its blocks can be dropped"
        )
        raise UserError(f"{network.name} cannot answer with {count} blocks: {reason}")
    remaining = {i * len(every) // count for i in range(count)}
    return without(network, {name for n, names in enumerate(every) if n not in remaining for name in names})
