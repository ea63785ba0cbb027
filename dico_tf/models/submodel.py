"""A network that was trained with dropped residual branches, with fewer of them: one of its own submodels."""

import itertools
import re
from collections.abc import Collection

import keras

from dico_tf.divide.networks.graph import Call, replay
from dico_tf.errors import UserError
from dico_tf.layers.stochastic_depth import PutBack, droppings

_BLOCK = re.compile(r".*?block\d+")


def droppable(network: keras.Model) -> list[str]:
    """Names of the residual branches that training drops, in the order of the graph."""
    return [layer.name.removesuffix("_taken") for layer in droppings(network)]


def blocks(network: keras.Model) -> list[list[str]]:
    """The same, block by block."""
    return [list(group) for _, group in itertools.groupby(droppable(network), _block)]


def _block(name: str) -> str:
    found = _BLOCK.match(name)
    return found[0] if found else name


def without(network: keras.Model, removed: Collection[str]) -> keras.Model:
    """The network without these of its n residual branches, the other k times n / k; the weights are its own.

    While training, what is kept counts for what is dropped, too; so it does here. What is removed is not computed.
    """
    every = droppable(network)
    strangers = sorted(set(removed) - set(every))
    if strangers or len(set(removed)) >= len(every):
        what = f"no branch {strangers[0]!r} that training drops" if strangers else f"only {len(every)} of them"
        raise UserError(f"{network.name} cannot answer without {len(set(removed))} residual branches: it has {what}")
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
    """With `count` of its n blocks, spread evenly."""
    every = blocks(network)
    if not 0 < count <= len(every):
        can = f"it has {len(every)} that training drops" if every else "none of its blocks can be left uncomputed"
        raise UserError(f"{network.name} cannot answer with {count} blocks: {can}")
    kept = {i * len(every) // count for i in range(count)}
    return without(network, {name for n, names in enumerate(every) if n not in kept for name in names})
