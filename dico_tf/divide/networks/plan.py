"""How a network is divided: the widths at which S branches together cost what the whole does."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import keras

from dico_tf.divide.networks import layer_rules  # noqa: F401  registers how Keras' layers are narrowed
from dico_tf.divide.networks.cost import Cost, cost
from dico_tf.divide.networks.graph import flat, weightless
from dico_tf.divide.networks.rebuild import build, divided_rates, rates
from dico_tf.divide.networks.search import search
from dico_tf.divide.networks.width_cost import Prices
from dico_tf.divide.networks.width_tracing import Network, analyse
from dico_tf.divide.networks.widths import Axis, Width
from dico_tf.errors import UserError

BUDGETS = ("params", "macs")
MOST = 32


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """What `divide_model` builds, and what it costs."""

    network: Network = dataclasses.field(repr=False)
    splits: int
    budget: str
    tolerance: float
    scale: float  # of widths, before they went to a grid
    widths: Mapping[Width, int] = dataclasses.field(repr=False)
    changes: dict[str, list[int]]  # "layer and n more": [width of the whole, of the branch]
    regularisation: dict[str, list[float]]  # the same of drop rates
    whole: Cost
    branch: Cost

    @property
    def distance(self) -> float:
        """(S branches) / whole - 1, in what was to be kept."""
        return self.splits * getattr(self.branch, self.budget) / getattr(self.whole, self.budget) - 1

    @property
    def met(self) -> bool:
        return abs(self.distance) <= self.tolerance

    def __str__(self) -> str:
        what = {"params": "parameters", "macs": "multiply-adds"}[self.budget]
        share = f"{self.splits} x {getattr(self.branch, self.budget):,} of {getattr(self.whole, self.budget):,} {what}"
        missed = "" if self.met else f", the nearest there is to a budget to be kept within {self.tolerance:.1%}"
        return f"{share}: {self.distance:+.2%}{missed}"

    def build(self, name: str = "branch", logits: bool = False) -> keras.Model:
        """One branch with weights of its own; with `logits`, without a final softmax and in float32."""
        return build(self.network, self.widths, self.splits, name, logits)


def plan(
    model: keras.Model, splits: int, budget: str = "params", tolerance: float = 0.02, classes: int | None = None
) -> Plan:
    """How `model` is divided in `splits` branches, each of `classes` if its own number is not wanted.

    Only the model's architecture is looked at; no weights are made.
    """
    _check(model, splits, budget, tolerance, classes)
    return weightless(_plan, model, splits, budget, tolerance, classes)


def _check(model: Any, splits: int, budget: str, tolerance: float, classes: int | None) -> None:
    if not isinstance(model, keras.Model):
        raise UserError(f"{type(model).__name__} is no Keras model; give a functional or sequential keras.Model")
    if isinstance(splits, bool) or not isinstance(splits, int) or not 1 <= splits <= MOST:
        raise UserError(f"splits={splits!r} cannot be; give a whole number from 1 to {MOST}")
    if budget not in BUDGETS:
        raise UserError(f"unknown budget {budget!r}; give {' or '.join(BUDGETS)}")
    if not 0 <= tolerance < 1:
        raise UserError(f"tolerance={tolerance!r} cannot be; give a share of the whole's cost, e.g. 0.02")
    if classes is not None and classes < 1:
        raise UserError(f"classes={classes!r} cannot be; give how many classes there are")


def _plan(model: keras.Model, splits: int, budget: str, tolerance: float, classes: int | None) -> Plan:
    network = analyse(flat(model))
    head = _head(network, classes)
    prices = Prices(network)
    whole = prices(head)
    if getattr(whole, budget) is None:
        raise UserError(
            f"multiply-adds of {model.name!r} are not known, for an input leaves a size open: "
            f"{[tensor.shape for tensor in model.inputs]}; give keras.Input every size, or budget='params'"
        )
    if not getattr(whole, budget):
        raise UserError(f"{model.name!r} has no {budget} to divide")
    scale, widths = 1.0, {}
    if splits > 1:
        every = network.widths
        found = search(
            every,
            lambda point: getattr(prices({**dict(zip(every, point, strict=True)), **head}), budget),
            getattr(whole, budget) / splits,
            tolerance,
        )
        scale, widths = found.scale, dict(zip(every, found.point, strict=True))
    widths = {**widths, **head}
    branch = cost(build(network, widths, splits, "branch"))
    return Plan(
        network=network,
        splits=splits,
        budget=budget,
        tolerance=tolerance,
        scale=scale,
        widths=widths,
        changes=_changes(network, widths),
        regularisation=_regularisation(network, splits),
        whole=whole,
        branch=branch,
    )


def _head(network: Network, classes: int | None) -> dict[Width, int]:
    """The width of the classes, where a new head is wanted."""
    made = {x.shape[-1] for x in network.model.outputs}
    if classes is None or made == {classes}:
        return {}
    if len(made) > 1 or len(network.heads) < len(network.model.outputs):
        found = {name: x.shape for name, x in zip(network.model.output_names, network.model.outputs, strict=True)}
        raise UserError(
            f"{network.model.name!r} cannot have a head for {classes} classes: its outputs are {found}; give a model "
            "whose outputs end in layers of as many filters or units as there are classes"
        )
    return {axis.roots()[0][0]: classes for axis in network.heads}


def _changes(network: Network, widths: Mapping[Width, int]) -> dict[str, list[int]]:
    """Layers that make a width, by the pair of what it is in the whole and in a branch."""
    pairs: dict[tuple[int, int], dict[str, None]] = {}
    for step in network.traced:
        operation = step.call.operation
        if getattr(operation, "weights", None):
            values = keras.tree.flatten(tuple(network.settings[operation].values()))
            for axis in (value for value in values if isinstance(value, Axis)):
                if (now := axis.value(widths)) != axis.size:
                    pairs.setdefault((axis.size, now), {})[operation.name] = None
    return {_several(names): list(pair) for pair, names in pairs.items()}


def _regularisation(network: Network, splits: int) -> dict[str, list[float]]:
    pairs: dict[tuple[float, float], list[str]] = {}
    for layer in {step.call.operation: None for step in network.traced} if splits > 1 else ():
        divided = divided_rates(layer, splits)
        for key, rate in rates(layer).items():
            pairs.setdefault((rate, divided[key]), []).append(layer.name)
    return {_several(names): list(pair) for pair, names in pairs.items()}


def _several(names: Iterable[str]) -> str:
    first, *others = names
    return f"{first} and {len(others)} more" if others else first
