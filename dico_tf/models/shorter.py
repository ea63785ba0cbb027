"""A network that was trained with dropped residual branches, with fewer of its blocks: one of its own submodels."""

import itertools
import re

import keras

from dico_tf.divide.networks.graph import Call, replay
from dico_tf.errors import UserError
from dico_tf.layers.stochastic_depth import PutBack, droppings

_BLOCK = re.compile(r".*?block\d+")


def blocks(network: keras.Model) -> list[list[str]]:
    """What training may drop, block by block: the names of each one's residual branches."""
    names = [layer.name.removesuffix("_taken") for layer in droppings(network)]
    return [list(group) for _, group in itertools.groupby(names, _block)]


def _block(name: str) -> str:
    found = _BLOCK.match(name)
    return found[0] if found else name


def shorter(network: keras.Model, count: int) -> keras.Model:
    """`count` of its n blocks, spread evenly, each residual branch times n / count; the weights are the network's own.

    While training, what is kept counts for what is dropped, too; so it does here.
    """
    every = blocks(network)
    if not 0 < count <= len(every):
        can = f"it has {len(every)} that training drops" if every else "training drops none of its blocks"
        raise UserError(f"{network.name} cannot answer with {count} blocks: {can}")
    kept = {name for i in range(count) for name in every[i * len(every) // count]}

    def answer(call: Call, args: tuple, kwargs: dict):
        if not isinstance(call.operation, PutBack):
            return call.operation(*args, **kwargs)
        x, share, *rest = args
        name = call.operation.name.removesuffix("_put_back")
        if name not in kept:
            return x
        if count < len(every):
            share = keras.layers.Rescaling(len(every) / count, name=f"{name}_for_all")(share)
        return call.operation(x, share, *rest, **kwargs)

    return replay(network, answer, network.name)
