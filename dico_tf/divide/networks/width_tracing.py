"""Trace how widths pass through a network, to know which may be chosen and which must be equal.

The layers' calls are followed in order. A rule registered for each class of layers says how its output's axes follow
from its inputs' axes.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import keras

from dico_tf.divide.networks.graph import Call, calls
from dico_tf.divide.networks.widths import Axis, Width, fixed, free, freeze, join
from dico_tf.errors import UserError

PAGE = "docs/any_network.md"


@dataclasses.dataclass(frozen=True, eq=False)
class Axes:
    """The axes of one tensor, the batch axis first."""

    axes: tuple[Axis, ...]

    def __getitem__(self, index: int) -> Axis:
        return self.axes[index]

    def __len__(self) -> int:
        return len(self.axes)

    @property
    def shape(self) -> tuple[int | None, ...]:
        return tuple(axis.size for axis in self.axes)

    @property
    def free(self) -> bool:
        """True if a branch may have another size along one of the axes."""
        return any(axis.free for axis in self.axes)

    def but(self, index: int, axis: Axis) -> "Axes":
        """Return a copy with one axis replaced."""
        axes = list(self.axes)
        axes[index] = axis
        return Axes(tuple(axes))


def constant(shape: Sequence[int | None]) -> Axes:
    """Return axes whose sizes are the same in every branch."""
    return Axes(tuple(fixed(size) for size in shape))


class SymbolicCall:
    """The argument of a narrowing rule: one call of a layer, with `Axes` in place of the tensors.

    Attributes:
        operation: the layer, or the operation of keras.ops.
        args, kwargs: arguments of the call.
        inputs: the `Axes` among the arguments, in order.
        shapes: output shapes in the whole network.
        config: the layer's `get_config()` in the whole network.
    """

    def __init__(
        self, call: Call, args: tuple, kwargs: dict[str, Any], new_config: dict[str, Any], own: dict[str, Axis]
    ):
        self.operation, self.args, self.kwargs = call.operation, args, kwargs
        self.inputs: list[Axes] = [x for x in keras.tree.flatten((args, kwargs)) if isinstance(x, Axes)]
        self.shapes = [tensor.shape for tensor in call.outputs]
        self._new_config, self._own = new_config, own

    @property
    def config(self) -> dict[str, Any]:
        return self.operation.get_config()

    def width(self, key: str, size: int | None = None) -> Axis:
        """Return the free width that `key` of the layer's config sets; all calls of the layer share it.

        Args:
            size: its size in the whole, if the config has no such key; the rule must then write the width by `set`.
        """
        if key not in self._own:
            self._own[key] = free(self.config[key] if size is None else size)
        if size is None:
            self.set(**{key: self._own[key]})
        return self._own[key]

    def set(self, **values: Any) -> None:
        """Set config keys of the branch's layer; an `Axis` is replaced by its size in the branch."""
        for key, value in values.items():
            self._new_config[key] = self._same(self._new_config.get(key, value), value)

    def _same(self, before: Any, now: Any) -> Any:
        """Return one value for two calls of a layer: join axes of equal size and refuse other differences."""
        if isinstance(before, Axis) and isinstance(now, Axis) and before.size == now.size:
            join(before, now)
        elif isinstance(before, tuple) and isinstance(now, tuple) and len(before) == len(now):
            return tuple(map(self._same, before, now))
        elif before is not now and (isinstance(before, Axis) or isinstance(now, Axis) or before != now):
            self.refuse("it is called several times with inputs of different widths")
        return before

    def argument(self, name: str, position: int) -> Any:
        """Return an argument that may be passed by position or by name; None if it is not passed."""
        return self.args[position] if len(self.args) > position else self.kwargs.get(name)

    def refuse(self, why: str) -> NoReturn:
        """Raise a UserError that names the layer, the reason `why` and a remedy."""
        kind = type(self.operation).__name__
        remedy = (
            f"register a rule with @narrows({kind}), see {PAGE}"
            if isinstance(self.operation, keras.layers.Layer)
            else f"put it into a layer and register a rule with @narrows, see {PAGE}"
        )
        raise UserError(f"{kind} {self.operation.name!r} cannot be narrowed: {why}; {remedy}")


Rule = Callable[[SymbolicCall], Axes | Sequence[Axes]]
RULES: dict[type, Rule] = {}


def narrows(*kinds: type) -> Callable[[Rule], Rule]:
    """Return a decorator that registers a rule for layers of these classes, and of subclasses without a nearer rule.

    The rule takes a `SymbolicCall` and returns the output's `Axes`, or a list of `Axes` for several outputs. A later
    rule for a class replaces an earlier one.
    """

    def register(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(kinds, rule))
        return rule

    return register


def rule_of(operation: Any) -> Rule:
    """Return the rule registered for the class of an operation, or for its nearest base class."""
    return next(RULES[kind] for kind in type(operation).__mro__ if kind in RULES)


@dataclasses.dataclass(frozen=True, eq=False)
class TracedCall:
    """A call, with `Axes` in place of the tensors among its arguments and outputs."""

    call: Call
    args: tuple
    kwargs: dict[str, Any]
    outputs: tuple[Axes, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class TracedNetwork:
    """A model without nested models, and the widths of it that may be chosen."""

    model: keras.Model
    calls: list[TracedCall]
    new_configs: dict[Any, dict[str, Any]]  # operation: {config key: value in the branch, with axes for sizes}
    widths: list[Width]  # the free ones, in the order of the calls
    heads: list[Axis]  # last axes of the outputs whose width can be set to another number of classes


def analyse(model: keras.Model) -> TracedNetwork:
    """Trace which widths of a model without nested models can change.

    The model's inputs and outputs keep their sizes. Raises UserError if a layer cannot be narrowed.
    """
    axes: dict[int, Axes] = {id(x): constant(x.shape) for x in model.inputs}
    new_configs: dict[Any, dict[str, Any]] = {}
    own: dict[Any, dict[str, Axis]] = {}
    first: dict[Any, SymbolicCall] = {}
    traced = []
    for call in calls(model):
        operation = call.operation
        args, kwargs = keras.tree.map_structure(lambda x: axes.get(id(x), x), (call.args, call.kwargs))
        symbolic = SymbolicCall(
            call, args, kwargs, new_configs.setdefault(operation, {}), own.setdefault(operation, {})
        )
        if getattr(operation, "weights", None):
            _join_inputs(first.setdefault(operation, symbolic), symbolic)
        outputs = rule_of(operation)(symbolic)
        outputs = (outputs,) if isinstance(outputs, Axes) else outputs
        outputs = tuple(_known_sizes(x, shape) for x, shape in zip(outputs, symbolic.shapes, strict=True))
        if [x.shape for x in outputs] != symbolic.shapes:
            symbolic.refuse(
                f"expected a rule that returns axes of its output shapes, {symbolic.shapes}, got "
                f"{[x.shape for x in outputs]}"
            )
        axes.update(zip(map(id, call.outputs), outputs, strict=True))
        traced.append(TracedCall(call, args, kwargs, outputs))
    outputs = [axes[id(x)] for x in model.outputs]
    heads = [x[-1] for x in outputs if _is_head(x)]
    for axis in (axis for x in outputs for axis in x.axes):
        freeze(axis)
    return TracedNetwork(model, traced, new_configs, _free_widths(traced, own), heads)


def _known_sizes(axes: Axes, shape: tuple[int | None, ...]) -> Axes:
    """Return axes in which every axis that is not free has its size from `shape`, which Keras computed; None = open."""
    pairs = zip(axes.axes, shape, strict=False)
    return Axes(tuple(axis if axis.free or axis.size == size else fixed(size) for axis, size in pairs))


def _join_inputs(first: SymbolicCall, now: SymbolicCall) -> None:
    """Make the inputs of two calls of one layer equally wide, as both use the same weights."""
    for one, other in zip(first.inputs, now.inputs, strict=False):
        for a, b in zip(one.axes, other.axes, strict=False):
            if None not in (a.size, b.size) and a.size == b.size:
                join(a, b)


def _is_head(output: Axes) -> bool:
    """Return True if the number of classes can change: the last axis is one width, which no input or constant fixes."""
    roots = output[-1].roots()
    return len(roots) == 1 and roots[0][1] == 1 and roots[0][0].free


def _free_widths(traced: list[TracedCall], own: dict[Any, dict[str, Axis]]) -> list[Width]:
    """Return each width that a branch may change, once: those of tensors, and those in a layer, such as `key_dim`."""
    widths: dict[Width, None] = {}
    for one in traced:
        tensors = [x for x in keras.tree.flatten((one.args, one.kwargs, one.outputs)) if isinstance(x, Axes)]
        for axis in (*(axis for x in tensors for axis in x.axes), *own[one.call.operation].values()):
            widths |= {width: None for width, _ in axis.roots() if width.free}
    return list(widths)
