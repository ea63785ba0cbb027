"""A network with fewer residual branches, on the very weights of the whole."""

import re
from collections.abc import Collection, Iterable

import keras

from dico_tf.errors import UserError
from dico_tf.layers.stochastic_depth import PutBack

_BLOCK = re.compile(r"(?:stage\d+_)?block\d+(?=_)")


def droppable(model: keras.Model) -> list[str]:
    """Names of the residual branches that training drops, in the order of the graph."""
    return [layer.name for layer in model.layers if isinstance(layer, PutBack) and layer.rate > 0]


def without(model: keras.Model, removed: Collection[str]) -> keras.Model:
    """The network in which these branches add nothing and are not computed; layers are shared, not copied."""
    strangers = sorted(set(removed) - set(droppable(model)))
    if strangers:
        raise UserError(f"{model.name} has no residual branch {strangers[0]!r} that can be left out")

    def call(layer, *args, **options):
        return args[0] if layer.name in removed else layer(*args, **options)

    return keras.models.clone_model(model, clone_function=lambda layer: layer, call_function=call)


def shallower(model: keras.Model, share: float) -> keras.Model:
    """The network with this share of the blocks that training drops, spread evenly over its depth."""
    blocks = _by_block(droppable(model))
    if not blocks:
        raise UserError(f"{model.name} was trained without dropping residual branches: there is none to leave out")
    if not 0 < share <= 1:
        raise UserError(f"submodel={share:g} is no share of the blocks: give more than 0 and at most 1")
    kept = round(share * len(blocks))
    last = [n * kept // len(blocks) for n in range(len(blocks) + 1)]
    left_out = [names for n, names in enumerate(blocks.values()) if last[n + 1] == last[n]]
    return without(model, {name for names in left_out for name in names})


def _by_block(names: Iterable[str]) -> dict[str, list[str]]:
    blocks: dict[str, list[str]] = {}
    for name in names:
        found = _BLOCK.match(name)
        blocks.setdefault(found[0] if found else name, []).append(name)
    return blocks
