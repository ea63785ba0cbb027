"""Labels of the channels of a network's tensors while its calls are followed, and the registry of rules for layers."""

from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from dico_tf.divide.networks.graph import Call
from dico_tf.divide.networks.slices import SCALES, Layout
from dico_tf.errors import UserError


class Reader:
    """The labels of a network's channels while its calls are followed.

    Args:
        grouped: names of convolutions whose channels form groups, even if only one group is left.
    """

    def __init__(self, grouped: frozenset[str]) -> None:
        self.grouped = grouped
        self.count = 0
        self.equal: list[tuple[np.ndarray, np.ndarray]] = []
        self.together: list[tuple[np.ndarray, np.ndarray]] = []
        self.layouts: dict[str, Layout] = {}

    def new(self, size: int) -> np.ndarray:
        """Return labels for new channels."""
        self.count += size
        return np.arange(self.count - size, self.count)

    def join(self, *labels: np.ndarray) -> np.ndarray:
        """Record that labels at the same position mean one channel; return a label for each position.

        A label of -1 stands for zeros: there, the label of the other arrays is returned.
        """
        first, *others = labels
        for other in others:
            known = (first >= 0) & (other >= 0)
            self.equal.append((first[known], other[known]))
            first = np.where(first >= 0, first, other)
        return first

    def unite(self, *labels: np.ndarray) -> None:
        """Record that labels at one index of the first axis, in all arrays [units, n], form one unit (see `slices`)."""
        first = labels[0].reshape(len(labels[0]), -1)[:, :1]
        for other in labels:
            other = other.reshape(len(other), -1)
            one, other = np.broadcast_to(first, other.shape).reshape(-1), other.reshape(-1)
            known = (one >= 0) & (other >= 0)
            self.together.append((one[known], other[known]))


class LabelledCall:
    """The argument of a rule: one call of a layer, with the labels of its inputs."""

    def __init__(self, call: Call, inputs: list[np.ndarray | None], reader: Reader):
        self.operation, self.inputs, self.reader = call.operation, inputs, reader
        self.shapes = [x.shape for x in call.inputs]
        self.outputs = [x.shape for x in call.outputs]
        self.arguments = call.args, call.kwargs

    @property
    def x(self) -> np.ndarray:
        """Labels of the first input."""
        return self.inputs[0]

    def new(self, size: int | None = None) -> np.ndarray:
        """Return labels for `size` channels that the layer makes; None = as many as its first output has."""
        return self.reader.new(self.outputs[0][-1] if size is None else size)

    def weight(
        self,
        variable: Any,
        axes: dict[int, np.ndarray],
        roles: dict[int, str],
        groups: int = 1,
        shape: tuple[int, ...] | None = None,
    ) -> None:
        """Record which channels the axes of a weight have, as a `Layout`.

        Args:
            axes: {axis: labels of its channels}; the others have no channels. Axes may be negative.
            roles: {axis: READS, WRITES or SCALES}; the others have no role.
            groups: number of groups of a grouped convolution.
            shape: the shape of the weight after some of its axes are merged, to which all axes refer; None = its own.
        """
        count = len(shape or variable.shape)
        axes = {axis % count: labels for axis, labels in axes.items()}
        roles = {axis % count: role for axis, role in roles.items()}
        self.reader.layouts[weight_name(self.operation, variable)] = Layout(
            tuple(axes.get(n) for n in range(count)), tuple(roles.get(n, "") for n in range(count)), groups, shape
        )

    def refuse(self, why: str) -> NoReturn:
        """Raise a UserError that names the layer and the reason."""
        kind = type(self.operation).__name__
        raise UserError(f"channels cannot be followed through {kind} {self.operation.name!r}: {why}")


def weight_name(layer: Any, variable: Any) -> str:
    """Return the name of a layer's weight, e.g. stem_conv/kernel."""
    names = [id(v) for v in layer.variables]
    same = [v for v in layer.variables if v.name == variable.name]
    if len(same) == 1:
        return f"{layer.name}/{variable.name}"
    return f"{layer.name}/{'/'.join(variable.path.split('/')[-2:])}/{names.index(id(variable))}"


Rule = Callable[[LabelledCall], "np.ndarray | list[np.ndarray | None]"]
LABELS: dict[str, Rule] = {}


def labels(*kinds: str) -> Callable[[Rule], Rule]:
    """Return a decorator that registers a rule for layers and operations whose classes have these names."""

    def register(rule: Rule) -> Rule:
        LABELS.update(dict.fromkeys(kinds, rule))
        return rule

    return register


def passed(call: LabelledCall) -> list[np.ndarray | None]:
    """Pass channels through a layer that computes channel by channel, such as pooling, or elementwise, as a sum.

    Inputs of a sum have the same channels. Weights, if any, have one entry for each channel: scales and shifts. Raises
    UserError if the shapes do not fit such a layer.
    """
    known = [x for x in call.inputs if x is not None]
    size = call.outputs[0][-1] if call.outputs[0] else None
    alike = [x for x in known if len(x) == size]
    if not alike:
        if any(len(x) > 1 for x in known):
            call.refuse(f"it turns {call.shapes} into {call.outputs}")
        return [None for _ in call.outputs]
    if any(len(x) not in (1, size) for x in known):
        call.refuse(f"it turns {call.shapes} into {call.outputs}")
    together = call.reader.join(*alike)
    for variable in getattr(call.operation, "weights", ()):
        if not variable.shape:
            call.weight(variable, {}, {})
        elif variable.shape[-1] == size and len(together) == size:
            role = {-1: SCALES} if variable.name in ("gamma", "scale") else {}
            call.weight(variable, {-1: together}, role)
        elif "seed" not in variable.name:
            call.refuse(
                f"its weight {variable.name} of shape {tuple(variable.shape)} has no axis of its {size} channels"
            )
    return [together if shape and shape[-1] == size else None for shape in call.outputs]
