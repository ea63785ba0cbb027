"""Divide any functional or sequential Keras network into S branches of the same total cost."""

import dataclasses
from collections.abc import Iterable, Mapping
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

BUDGETS = ("params", "macs")
MOST_SPLITS = 32


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """The division of a network: the branch's widths, what they change, and what whole and branch cost."""

    network: TracedNetwork = dataclasses.field(repr=False)
    splits: int
    budget: str
    tolerance: float
    scale: float  # factor of all widths, before rounding
    widths: Mapping[Width, int] = dataclasses.field(repr=False)
    changes: dict[str, list[int]]  # {"conv and 2 more": [width in the whole, in a branch]}
    regularisation: dict[str, list[float]]  # {"dropout": [rate in the whole, in a branch]}
    whole: NetworkCost
    branch: NetworkCost

    @property
    def distance(self) -> float:
        """Relative distance from the budget: cost of the S branches / cost of the whole - 1."""
        return self.splits * getattr(self.branch, self.budget) / getattr(self.whole, self.budget) - 1

    @property
    def met(self) -> bool:
        """True if the cost is within the tolerance."""
        return abs(self.distance) <= self.tolerance

    def __str__(self) -> str:
        what = {"params": "parameters", "macs": "multiply-adds"}[self.budget]
        share = f"{self.splits} x {getattr(self.branch, self.budget):,} of {getattr(self.whole, self.budget):,} {what}"
        missed = "" if self.met else f", the nearest possible; the tolerance is {self.tolerance:.1%}"
        return f"{share}: {self.distance:+.2%}{missed}"

    def build(self, name: str = "branch", logits: bool = False) -> keras.Model:
        """Build one branch with weights of its own; with `logits`, without a final softmax and in float32."""
        return build(self.network, self.widths, self.splits, name, logits)


class Branches(list):
    """S Keras models of one architecture, each with its own weights; `plan` describes their widths and cost."""

    def __init__(self, plan: Plan, models: list[keras.Model]):
        super().__init__(models)
        self.plan = plan


def divide_model(model: keras.Model, splits: int, budget: str = "params", tolerance: float = 0.02) -> Branches:
    """Return S narrower networks whose total cost is that of `model`.

    Args:
        budget: the cost to keep, "params" or "macs".
        tolerance: largest relative difference of the cost. If no widths reach it, the nearest are taken;
            `.plan.met` is then False and `.plan.distance` is the difference.
    """
    division = plan(model, splits, budget, tolerance)
    return Branches(division, [division.build(f"branch_{n}") for n in range(splits)])


def plan(
    model: keras.Model, splits: int, budget: str = "params", tolerance: float = 0.02, classes: int | None = None
) -> Plan:
    """Return the division of `model` without building the branches. Its weights are not used.

    Args:
        budget, tolerance: see `divide_model`.
        classes: number of classes of whole and branches; None keeps the model's own.
    """
    _check(model, splits, budget, tolerance, classes)
    return weightless(_plan, model, splits, budget, tolerance, classes)


def _check(model: Any, splits: int, budget: str, tolerance: float, classes: int | None) -> None:
    if not isinstance(model, keras.Model):
        raise UserError(f"expected a functional or sequential keras.Model, got {type(model).__name__}")
    if isinstance(splits, bool) or not isinstance(splits, int) or not 1 <= splits <= MOST_SPLITS:
        raise UserError(f"splits must be a whole number from 1 to {MOST_SPLITS}, got {splits!r}")
    if budget not in BUDGETS:
        raise UserError(f"budget must be {' or '.join(BUDGETS)}, got {budget!r}")
    if not 0 <= tolerance < 1:
        raise UserError(f"tolerance must be a share of the whole's cost such as 0.02, got {tolerance!r}")
    if classes is not None and classes < 1:
        raise UserError(f"classes must be at least 1, got {classes!r}")


def _plan(model: keras.Model, splits: int, budget: str, tolerance: float, classes: int | None) -> Plan:
    network = analyse(flat(model))
    head = _head(network, classes)
    cost_at = WidthCost(network)
    whole = cost_at(head)
    if getattr(whole, budget) is None:
        raise UserError(
            f"the multiply-adds of {model.name!r} are not known, because an input has an open size: "
            f"{[tensor.shape for tensor in model.inputs]}; give keras.Input every size, or use budget='params'"
        )
    if not getattr(whole, budget):
        raise UserError(f"{model.name!r} has no {budget} to divide")
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
    """Return {width of each head: classes}; {} if the network has that number of classes already."""
    sizes = {x.shape[-1] for x in network.model.outputs}
    if classes is None or sizes == {classes}:
        return {}
    if len(sizes) > 1 or len(network.heads) < len(network.model.outputs):
        shapes = {name: x.shape for name, x in zip(network.model.output_names, network.model.outputs, strict=True)}
        raise UserError(
            f"{network.model.name!r} cannot have a head for {classes} classes: its outputs are {shapes}; give a model "
            "whose outputs end in layers of as many filters or units as there are classes"
        )
    return {axis.roots()[0][0]: classes for axis in network.heads}


def _changes(network: TracedNetwork, widths: Mapping[Width, int]) -> dict[str, list[int]]:
    """Return {layers: [width in the whole, in a branch]} of all widths that change."""
    pairs: dict[tuple[int, int], dict[str, None]] = {}
    for traced in network.calls:
        operation = traced.call.operation
        if getattr(operation, "weights", None):
            values = keras.tree.flatten(tuple(network.new_configs[operation].values()))
            for axis in (value for value in values if isinstance(value, Axis)):
                if (now := axis.value(widths)) != axis.size:
                    pairs.setdefault((axis.size, now), {})[operation.name] = None
    return {_several(names): list(pair) for pair, names in pairs.items()}


def _regularisation(network: TracedNetwork, splits: int) -> dict[str, list[float]]:
    """Return {layers: [drop rate in the whole, in a branch]}."""
    pairs: dict[tuple[float, float], list[str]] = {}
    for layer in {traced.call.operation: None for traced in network.calls} if splits > 1 else ():
        divided = divided_rates(layer, splits)
        for key, rate in rates(layer).items():
            pairs.setdefault((rate, divided[key]), []).append(layer.name)
    return {_several(names): list(pair) for pair, names in pairs.items()}


def _several(names: Iterable[str]) -> str:
    first, *others = names
    return f"{first} and {len(others)} more" if others else first
