"""Divide any functional or sequential Keras model into S branches that together cost about as much as the model."""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

import keras

from dico_tf.divide.networks import layer_rules  # noqa: F401  registers the rules of Keras' layers
from dico_tf.divide.networks.cost import NetworkCost, cost
from dico_tf.divide.networks.graph import flat, weightless
from dico_tf.divide.networks.rebuild import build, divided_rates, rates
from dico_tf.divide.networks.search import search
from dico_tf.divide.networks.width_cost import WidthCost
from dico_tf.divide.networks.width_tracing import TracedNetwork, analyse
from dico_tf.divide.networks.widths import Axis, Width
from dico_tf.errors import UserError

COUNTED = {"params": "parameters", "macs": "multiply-adds"}  # the budgets, in words
MOST_SPLITS = 32


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """The division of a network: the branch's widths, what they change, and what whole and branch cost.

    Whole and branch have the head for `classes` of `plan`.
    """

    network: TracedNetwork = dataclasses.field(repr=False)
    splits: int
    budget: str
    tolerance: float
    scale: float  # factor of all widths, before they were rounded and refined
    widths: Mapping[Width, int] = dataclasses.field(repr=False)
    changes: dict[str, list[int]]  # {"conv and 2 more": [width in the given model, in a branch]}
    regularisation: dict[str, list[float]]  # {"dropout": [rate in the whole, in a branch]}
    whole: NetworkCost
    branch: NetworkCost

    @property
    def distance(self) -> float:
        """Relative distance from the budget: cost of the S branches / cost of the whole - 1."""
        return self.splits * getattr(self.branch, self.budget) / getattr(self.whole, self.budget) - 1

    @property
    def met(self) -> bool:
        """True if `distance` is at most the tolerance, above or below 0."""
        return abs(self.distance) <= self.tolerance

    def __str__(self) -> str:
        branch, whole = getattr(self.branch, self.budget), getattr(self.whole, self.budget)
        share = f"{self.splits} x {branch:,} of {whole:,} {COUNTED[self.budget]}"
        missed = "" if self.met else f", the nearest possible; the tolerance is {self.tolerance:.1%}"
        return f"{share}: {self.distance:+.2%}{missed}"

    def build(self, name: str = "branch", logits: bool = False) -> keras.Model:
        """Build one branch with new weights and with drop rates divided by sqrt(S).

        With `logits`, it has no final softmax and its outputs are float32.
        """
        return build(self.network, self.widths, self.splits, name, logits)


class Branches(list):
    """S Keras models of one architecture, each with its own weights; `plan` describes their widths and cost."""

    def __init__(self, plan: Plan, models: list[keras.Model]):
        super().__init__(models)
        self.plan = plan


def divide_model(model: keras.Model, splits: int, budget: str = "params", tolerance: float = 0.02) -> Branches:
    """Return S narrower networks with new weights, whose total cost is about that of `model`.

    Their drop rates are those of `model`, divided by sqrt(S).

    Args:
        model: a functional or sequential model; it does not change.
        splits: S, 1 to 32; 1 returns one network as wide as the model.
        budget: the cost to keep, "params" (trainable parameters) or "macs" (multiply-adds per image).
        tolerance: largest relative difference of the total cost. If the search finds no such widths, it takes the
            nearest; `.plan.met` is then False. `.plan.distance` is the difference.

    Raises:
        UserError: the model is of another kind, a layer cannot be narrowed, or an argument is out of its range.
    """
    division = plan(model, splits, budget, tolerance)
    return Branches(division, [division.build(f"branch_{n}") for n in range(splits)])


def plan(
    model: keras.Model, splits: int, budget: str = "params", tolerance: float = 0.02, classes: int | None = None
) -> Plan:
    """Return the division of `model` without making weights. The model's own weights are not used.

    Args:
        splits, budget, tolerance: as in `divide_model`, which also lists the errors.
        classes: number of classes of whole and branches, which get a head of this size; None keeps the model's.
            Raises UserError if the model's outputs cannot have this size.
    """
    _check(model, splits, budget, tolerance, classes)
    return weightless(_plan, model, splits, budget, tolerance, classes)


def _check(model: Any, splits: int, budget: str, tolerance: float, classes: int | None) -> None:
    if not isinstance(model, keras.Model):
        raise UserError(f"expected a functional or sequential keras.Model, got {type(model).__name__}")
    if isinstance(splits, bool) or not isinstance(splits, int) or not 1 <= splits <= MOST_SPLITS:
        raise UserError(f"splits must be a whole number from 1 to {MOST_SPLITS}, got {splits!r}")
    if budget not in COUNTED:
        raise UserError(f"budget must be {' or '.join(COUNTED)}, got {budget!r}")
    if not 0 <= tolerance < 1:
        raise UserError(
            f"tolerance must be a share of the whole's cost, at least 0 and below 1, such as 0.02; got {tolerance!r}"
        )
    if classes is not None and classes < 1:
        raise UserError(f"classes must be at least 1, got {classes!r}")


def _plan(model: keras.Model, splits: int, budget: str, tolerance: float, classes: int | None) -> Plan:
    network = analyse(flat(model))
    head = _head(network, classes)
    cost_at = WidthCost(network)
    whole = cost_at(head)
    if getattr(whole, budget) is None:
        raise UserError(
            f"the multiply-adds of {model.name!r} are not known, because a layer has an input or output of open size; "
            f"the model's inputs are {[tensor.shape for tensor in model.inputs]}; give keras.Input every size, or use "
            "budget='params'"
        )
    if not getattr(whole, budget):
        raise UserError(
            f"{model.name!r} has no {COUNTED[budget]} to divide; expected layers of filters or units, got "
            f"{', '.join(sorted({type(layer).__name__ for layer in model.layers}))}"
        )
    scale, widths = 1.0, {}
    if splits > 1:
        every = network.widths
        nearest = search(
            every,
            lambda point: getattr(cost_at({**dict(zip(every, point, strict=True)), **head}), budget),
            getattr(whole, budget) / splits,
            tolerance,
        )
        scale, widths = nearest.scale, dict(zip(every, nearest.point, strict=True))
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


def _head(network: TracedNetwork, classes: int | None) -> dict[Width, int]:
    """Return {width of each head: classes}; {} if `classes` is None or the network has that number already."""
    sizes = {x.shape[-1] for x in network.model.outputs}
    if classes is None or sizes == {classes}:
        return {}
    shapes = {name: x.shape for name, x in zip(network.model.output_names, network.model.outputs, strict=True)}
    refusal = f"{network.model.name!r} cannot have a head for {classes} classes: its outputs are {shapes}"
    if len(sizes) > 1:
        raise UserError(f"{refusal}, whose last axes differ; give a model whose outputs all have one number of classes")
    if len(network.heads) < len(network.model.outputs):
        raise UserError(
            f"{refusal}, and the last axis of an output is not the free width of one layer; end the model in a layer "
            "of as many filters or units as there are classes"
        )
    return {axis.roots()[0][0]: classes for axis in network.heads}


def _changes(network: TracedNetwork, widths: Mapping[Width, int]) -> dict[str, list[int]]:
    """Return {layers with weights: [width in the given model, in a branch]} of all widths that differ."""
    pairs: dict[tuple[int, int], dict[str, str]] = {}
    for traced in network.calls:
        operation = traced.call.operation
        if getattr(operation, "weights", None):
            for key, value in network.new_configs[operation].items():
                for axis in (part for part in keras.tree.flatten(value) if isinstance(part, Axis)):
                    if (now := axis.value(widths)) != axis.size:
                        pairs.setdefault((axis.size, now), {}).setdefault(operation.name, key)
    return _by_layers(pairs)


def _regularisation(network: TracedNetwork, splits: int) -> dict[str, list[float]]:
    """Return {layers: [drop rate in the whole, in a branch]}; {} if S = 1."""
    pairs: dict[tuple[float, float], dict[str, str]] = {}
    for layer in {traced.call.operation: None for traced in network.calls} if splits > 1 else ():
        divided = divided_rates(layer, splits)
        for key, rate in rates(layer).items():
            pairs.setdefault((rate, divided[key]), {}).setdefault(layer.name, key)
    return _by_layers(pairs)


def _by_layers(pairs: Mapping[tuple, Mapping[str, str]]) -> dict[str, list]:
    """Return {name: [before, after]}, where the name of several layers is "first and 2 more".

    If one name would stand for two pairs, the second adds the config key: "conv (filters)".

    Args:
        pairs: {(before, after): {layer: config key}}.
    """
    rows: dict[str, list] = {}
    for pair, keys in pairs.items():
        first, *others = keys
        name = f"{first} and {len(others)} more" if others else first
        numbered = (f"{name} ({keys[first]} {n})" for n in itertools.count(2))
        names = itertools.chain([name, f"{name} ({keys[first]})"], numbered)
        rows[next(free for free in names if free not in rows)] = list(pair)
    return rows
