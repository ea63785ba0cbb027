"""Which widths of a network may be chosen: its calls followed in order, each by the rule of its layer."""

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
    """The axes of one tensor; the first is the batch's."""

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
        return any(axis.free for axis in self.axes)

    def but(self, index: int, axis: Axis) -> "Axes":
        """The same but for one axis."""
        axes = list(self.axes)
        axes[index] = axis
        return Axes(tuple(axes))


def constant(shape: Sequence[int | None]) -> Axes:
    """Axes that keep the sizes they have."""
    return Axes(tuple(fixed(size) for size in shape))


class Step:
    """One call as its rule sees it: `Axes` stand where tensors stood."""

    def __init__(self, call: Call, args: tuple, kwargs: dict[str, Any], settings: dict[str, Any], own: dict[str, Axis]):
        self.operation, self.args, self.kwargs = call.operation, args, kwargs
        self.inputs: list[Axes] = [x for x in keras.tree.flatten((args, kwargs)) if isinstance(x, Axes)]
        self.shapes = [tensor.shape for tensor in call.outputs]  # in the whole
        self._settings, self._own = settings, own

    @property
    def config(self) -> dict[str, Any]:
        return self.operation.get_config()

    def width(self, key: str, size: int | None = None) -> Axis:
        """The free width that `key` of the layer's config sets, the same at every call; `size` if not the config's."""
        if key not in self._own:
            self._own[key] = free(self.config[key] if size is None else size)
        if size is None:
            self.set(**{key: self._own[key]})
        return self._own[key]

    def set(self, **settings: Any) -> None:
        """Config keys to be written anew; an Axis stands for its size in the branch."""
        for key, value in settings.items():
            self._settings[key] = self._agreed(self._settings.get(key, value), value)

    def _agreed(self, before: Any, now: Any) -> Any:
        """What several calls of one layer set must be the same."""
        if isinstance(before, Axis) and isinstance(now, Axis) and before.size == now.size:
            join(before, now)
        elif isinstance(before, tuple) and isinstance(now, tuple) and len(before) == len(now):
            return tuple(map(self._agreed, before, now))
        elif before is not now and (isinstance(before, Axis) or isinstance(now, Axis) or before != now):
            self.refuse("it is called several times with inputs of different widths")
        return before

    def argument(self, name: str, position: int) -> Any:
        return self.args[position] if len(self.args) > position else self.kwargs.get(name)

    def refuse(self, why: str) -> NoReturn:
        kind = type(self.operation).__name__
        remedy = (
            f"teach it with @narrows({kind}), see {PAGE}"
            if isinstance(self.operation, keras.layers.Layer)
            else f"put it into a layer and teach that with @narrows, see {PAGE}"
        )
        raise UserError(f"{kind} {self.operation.name!r} cannot be narrowed: {why}; {remedy}")


Rule = Callable[[Step], Axes | Sequence[Axes]]
RULES: dict[type, Rule] = {}


def narrows(*kinds: type) -> Callable[[Rule], Rule]:
    """Registers how layers of these classes, and of classes derived from them, pass widths on.

    The rule is given a `Step` and returns the output's `Axes`, or one for each output. Later registrations win.
    """

    def register(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(kinds, rule))
        return rule

    return register


def rule_of(operation: Any) -> Rule:
    return next(RULES[kind] for kind in type(operation).__mro__ if kind in RULES)


@dataclasses.dataclass(frozen=True, eq=False)
class Traced:
    """A call, and the axes of its arguments and outputs."""

    call: Call
    args: tuple
    kwargs: dict[str, Any]
    outputs: tuple[Axes, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
    """A flat model, the widths that may be chosen, and what is to be written where they are."""

    model: keras.Model
    traced: list[Traced]
    settings: dict[Any, dict[str, Any]]  # operation: {config key: value}
    widths: list[Width]  # free ones, in the order in which the network has them
    heads: list[Axis]  # last axes of the outputs whose width a new head could have


def analyse(model: keras.Model) -> Network:
    """Follows a flat model's calls. Inputs and outputs keep their sizes."""
    axes: dict[int, Axes] = {id(x): constant(x.shape) for x in model.inputs}
    settings: dict[Any, dict[str, Any]] = {}
    own: dict[Any, dict[str, Axis]] = {}
    first: dict[Any, Step] = {}
    traced = []
    for call in calls(model):
        operation = call.operation
        args, kwargs = _replaced(axes, (call.args, call.kwargs))
        step = Step(call, args, kwargs, settings.setdefault(operation, {}), own.setdefault(operation, {}))
        if getattr(operation, "weights", None):
            _alike(first.setdefault(operation, step), step)
        outputs = rule_of(operation)(step)
        outputs = (outputs,) if isinstance(outputs, Axes) else outputs
        outputs = tuple(_as_far_as_known(x, shape) for x, shape in zip(outputs, step.shapes, strict=True))
        if [x.shape for x in outputs] != step.shapes:
            step.refuse(f"its rule tells of {[x.shape for x in outputs]} where it gives {step.shapes}")
        axes.update(zip(map(id, call.outputs), outputs, strict=True))
        traced.append(Traced(call, args, kwargs, outputs))
    outputs = [axes[id(x)] for x in model.outputs]
    heads = [x[-1] for x in outputs if _head(x)]
    for axis in (axis for x in outputs for axis in x.axes):
        freeze(axis)
    return Network(model, traced, settings, _free(traced, own), heads)


def _replaced(known: dict[int, Axes], given: Any) -> Any:
    return keras.tree.map_structure(lambda x: known.get(id(x), x), given)


def _as_far_as_known(axes: Axes, shape: tuple[int | None, ...]) -> Axes:
    """Some sizes Keras leaves open that a rule knows, and the other way round."""
    pairs = zip(axes.axes, shape, strict=False)
    return Axes(tuple(axis if axis.free or axis.size == size else fixed(size) for axis, size in pairs))


def _alike(first: Step, now: Step) -> None:
    """A layer's weights fit all its calls."""
    for one, other in zip(first.inputs, now.inputs, strict=False):
        for a, b in zip(one.axes, other.axes, strict=False):
            if None not in (a.size, b.size) and a.size == b.size:
                join(a, b)


def _head(output: Axes) -> bool:
    """Whether one width alone makes the last axis, and no input or constant holds it."""
    roots = output[-1].roots()
    return len(roots) == 1 and roots[0][1] == 1 and roots[0][0].free


def _free(traced: list[Traced], own: dict[Any, dict[str, Axis]]) -> list[Width]:
    """Those of tensors, and those that never leave their layer."""
    found: dict[Width, None] = {}
    for step in traced:
        tensors = [x for x in keras.tree.flatten((step.args, step.kwargs, step.outputs)) if isinstance(x, Axes)]
        for axis in (*(axis for x in tensors for axis in x.axes), *own[step.call.operation].values()):
            found |= {width: None for width, _ in axis.roots() if width.free}
    return list(found)
