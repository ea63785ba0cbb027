"""Choose parts of a network's channels, one for each branch, and cut its weights to them. Imports no framework.

A `ChannelGraph` describes a network by labels. Every channel has a label; channels that a sum joins have the same
one. Channels that only make sense together, such as those of an attention head or of a group of a grouped convolution,
form a unit. Whole and branch are described alike: channels that occur in the same weights correspond to each other.
"""

import collections
import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from dico_tf.errors import UserError

READS, WRITES, SCALES = "reads", "writes", "scales"  # roles of a weight's axis


@dataclasses.dataclass(frozen=True, eq=False)
class Layout:
    """The channels along the axes of one weight.

    Attributes:
        axes: labels along each axis, -1 for a channel of zeros; None if the axis has no channels, as rows of a filter.
        roles: of each axis: READS for a kernel's input channels, WRITES for its filters, SCALES for factors such as the
            gamma of a normalisation, "" for all others.
        groups: groups of a grouped convolution, whose axis of input channels has the length of one group.
        shape: the weight is reshaped to it first, so that `axes` fit; None = its own shape.
    """

    axes: tuple[np.ndarray | None, ...]
    roles: tuple[str, ...]
    groups: int = 1
    shape: tuple[int, ...] | None = None

    def of(self, array: np.ndarray) -> np.ndarray:
        """Return a weight's values, reshaped to `shape`."""
        return array if self.shape is None else array.reshape(self.shape)


@dataclasses.dataclass(frozen=True, eq=False)
class ChannelGraph:
    """The channels of a network.

    Attributes:
        layouts: {weight: its layout}.
        units: number of each label's unit; the labels of a unit are chosen together.
        outputs: labels of the network's outputs.
    """

    layouts: dict[str, Layout]
    units: np.ndarray
    outputs: np.ndarray

    def places(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return (labels, numbers) of each axis of each weight, in an order that whole and branch share.

        Both arrays have an entry for each channel with a label. The number is 1, except in the input axis of a grouped
        convolution. There it is the number of the channel's group, from 1, among those groups of the axis whose
        channels are of the same unit.
        """
        axes = [
            (axis, self._numbers(axis, layout.groups if role == READS else 1))
            for _, layout in sorted(self.layouts.items())
            for axis, role in zip(layout.axes, layout.roles, strict=True)
            if axis is not None
        ]
        return [(axis[axis >= 0], numbers[axis >= 0]) for axis, numbers in axes]

    def _numbers(self, labels: np.ndarray, groups: int) -> np.ndarray:
        members, seen, numbers = len(labels) // groups, collections.Counter(), []
        if groups == 1:
            return np.ones(len(labels), np.uint64)
        for label in labels[::members].tolist():
            seen[self.units[label]] += 1
            numbers.append(seen[self.units[label]])
        return np.repeat(np.array(numbers, np.uint64), members)

    def kinds(self) -> np.ndarray:
        """Return the kind of each label; labels of one kind occur equally often along the same axes of the weights."""
        places = self.places()
        codes = np.random.default_rng(0).integers(1, 2**63, len(places), dtype=np.uint64)
        kinds = np.zeros(len(self.units), np.uint64)
        for code, (labels, numbers) in zip(codes, places, strict=True):
            np.add.at(kinds, labels, code * numbers)
        return kinds


def components(count: int, pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Return, for each of `count` labels, the smallest label that it is connected with, directly or through others.

    Args:
        pairs: (labels, other labels); those at the same position are connected.
    """
    root = np.arange(count)
    if not pairs:
        return root
    one, other = (np.concatenate(side) for side in zip(*pairs, strict=True))
    while True:
        a, b = root[one], root[other]
        if (a == b).all():
            return root
        np.minimum.at(root, np.maximum(a, b), np.minimum(a, b))
        while (shorter := root[root]).tolist() != root.tolist():
            root = shorter


def importance(graph: ChannelGraph, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return how much each label matters: the size of what is written to it times the size of what reads it.

    The first is |gamma| of its normalisation: with one, the size of the filters is irrelevant. Without one, it is the
    L2 norm of the filters. The second is the L2 norm of the kernels' rows that read it. All are divided by the layer's
    mean, so that a label that several layers share has the mean of comparable numbers. What is missing counts as 1.
    """
    sums = {role: np.zeros((2, len(graph.units))) for role in (READS, WRITES, SCALES)}
    for name, layout in graph.layouts.items():
        for axis, (labels, role) in enumerate(zip(layout.axes, layout.roles, strict=True)):
            if not role or labels is None:
                continue
            squares = np.square(layout.of(arrays[name]).astype(np.float64))
            if layout.groups > 1 and role == READS:
                squares = squares.reshape(-1, squares.shape[-2], layout.groups, squares.shape[-1] // layout.groups)
                norms = np.sqrt(squares.sum((0, 3)).T.reshape(-1))
            else:
                norms = np.sqrt(squares.sum(tuple(n for n in range(squares.ndim) if n != axis)))
            known = labels >= 0
            np.add.at(sums[role][0], labels[known], (norms / (norms.mean() or 1))[known])
            np.add.at(sums[role][1], labels[known], 1)
    means = {role: np.where(count > 0, total / np.maximum(count, 1), 1.0) for role, (total, count) in sums.items()}
    written = np.where(sums[SCALES][1] > 0, means[SCALES], means[WRITES])
    return written * means[READS]


def part(order: Sequence[int], size: int, branch: int, branches: int) -> list[int]:
    """Return the entries of `order` that one of several branches takes, in ascending order.

    Branch s, from 0, takes the entries s, s + S, ... of the order, then those of the next branch, until it has `size`.
    So two branches share entries only if S x size exceeds their number. A size above their number repeats entries.
    """
    turns = sorted(range(len(order)), key=lambda n: ((n - branch) % branches, n))
    return sorted(order[turns[n % len(turns)]] for n in range(size))


def slices(
    whole: ChannelGraph,
    branch: ChannelGraph,
    arrays: Mapping[str, np.ndarray],
    branches: int,
) -> list[dict[str, np.ndarray]]:
    """Return the weights of each branch, cut from those of the whole.

    Kernels are multiplied by n / n', if n' of their n input channels are left: their mean output stays the same.

    Args:
        arrays: {weight: its values in the whole}.
        branches: S.

    Raises:
        UserError: if whole and branch differ in layers, if the branch has channels that correspond to none of the
            whole, or more than the whole, or if a group of its convolutions needs channels of several groups.
    """
    if whole.layouts.keys() != branch.layouts.keys():
        other = sorted(whole.layouts.keys() ^ branch.layouts.keys())[0]
        has, lacks = ("whole", "branch") if other in whole.layouts else ("branch", "whole")
        raise UserError(f"whole and branch differ in layers: the {has} has {other.split('/')[0]}, the {lacks} has not")
    mappings = _mappings(whole, branch, importance(whole, arrays), branches)
    return [
        {
            name: _cut(name, arrays[name], whole.layouts[name], layout, mapping)
            for name, layout in branch.layouts.items()
        }
        for mapping in mappings
    ]


def _units(graph: ChannelGraph) -> dict[tuple[int, ...], list[dict[int, list[int]]]]:
    """Return {kinds within the unit: units}; a unit is {kind: its labels}."""
    kinds, used = graph.kinds(), np.unique(np.concatenate([labels for labels, _ in graph.places()]))
    members: dict[int, dict[int, list[int]]] = {}
    for label in used.tolist():
        members.setdefault(int(graph.units[label]), {}).setdefault(int(kinds[label]), []).append(label)
    units: dict[tuple[int, ...], list[dict[int, list[int]]]] = {}
    for first in sorted(members):
        units.setdefault(tuple(sorted(members[first])), []).append(members[first])
    return units


def _mappings(whole: ChannelGraph, branch: ChannelGraph, scores: np.ndarray, branches: int) -> list[dict[int, int]]:
    """Return {label of the branch: label of the whole} for each branch; `scores` is the `importance` of the whole."""
    mappings: list[dict[int, int]] = [{} for _ in range(branches)]
    of_whole = _units(whole)
    for kinds, narrow in _units(branch).items():
        wide = of_whole.get(kinds)
        if wide is None:
            raise UserError(_unlike(whole, branch, narrow[0]))
        if len(narrow) > len(wide):
            layer, unit = _first_layer(branch, narrow[0]), "channels" if _single(narrow[0]) else "heads or groups"
            raise UserError(
                f"branches are wider than the whole in {layer}: {len(narrow)} {unit}, the whole has {len(wide)}"
            )
        for kind, labels in narrow[0].items():
            if len(labels) > len(wide[0][kind]):
                layer, most = _first_layer(branch, {kind: labels}), len(wide[0][kind])
                raise UserError(
                    f"branches are wider than the whole in a head or group of {layer}: {len(labels)} channels, "
                    f"the whole has {most}"
                )
        means = [np.mean([scores[label] for labels in unit.values() for label in labels]) for unit in wide]
        order = sorted(range(len(wide)), key=lambda n: (-means[n], n))
        takers: collections.Counter = collections.Counter()
        parts = [part(order, len(narrow), s, branches) for s in range(branches)]
        totals = collections.Counter(n for chosen in parts for n in chosen)
        for mapping, chosen in zip(mappings, parts, strict=True):
            for unit, n in zip(narrow, chosen, strict=True):
                for kind, labels in unit.items():
                    ranked = sorted(wide[n][kind], key=lambda label: (-scores[label], label))
                    mapping.update(zip(labels, part(ranked, len(labels), takers[n], totals[n]), strict=True))
                takers[n] += 1
    return mappings


def _single(unit: dict[int, list[int]]) -> bool:
    return sum(map(len, unit.values())) == 1


def _axes(graph: ChannelGraph, unit: dict[int, list[int]]) -> list[tuple[str, int]]:
    """Return (weight, axis) of each axis that has channels of a unit, {kind: labels}."""
    labels = [label for members in unit.values() for label in members]
    return [
        (name, n)
        for name, layout in graph.layouts.items()
        for n, axis in enumerate(layout.axes)
        if axis is not None and np.isin(axis, labels).any()
    ]


def _first_layer(graph: ChannelGraph, unit: dict[int, list[int]]) -> str:
    return _axes(graph, unit)[0][0].split("/")[0]


def _unlike(whole: ChannelGraph, branch: ChannelGraph, unit: dict[int, list[int]]) -> str:
    """Return the reason why a unit of a branch corresponds to none of the whole."""
    (first, n), *others = _axes(branch, unit)
    labels, layer = set(whole.layouts[first].axes[n].tolist()), first.split("/")[0]
    for name, m in others:
        if not labels & set(whole.layouts[name].axes[m].tolist()):
            return f"{layer} and {name.split('/')[0]} share channels in a branch, but not in the whole"
    return f"the channels of {layer} are connected in another way in a branch than in the whole"


def places_of(wide: np.ndarray, narrow: np.ndarray, mapping: Mapping[int, int]) -> np.ndarray:
    """Return, for each position along the branch's axis, the position along the whole's axis.

    The n-th occurrence of a label in `narrow` gets the position of the n-th occurrence of `mapping[label]` in `wide`.
    """
    positions: dict[int, list[int]] = {}
    for n, label in enumerate(wide.tolist()):
        positions.setdefault(label, []).append(n)
    seen: collections.Counter = collections.Counter()
    chosen = []
    for label in narrow.tolist():
        target = mapping.get(label, -1)
        chosen.append(positions[target][seen[label]])
        seen[label] += 1
    return np.array(chosen, np.int64)


def _cut(name: str, array: np.ndarray, wide: Layout, narrow: Layout, mapping: Mapping[int, int]) -> np.ndarray:
    array = wide.of(array)
    pairs = list(zip(wide.axes, narrow.axes, strict=True))
    indices = [
        np.arange(size) if one is None else places_of(one, other, mapping)
        for size, (one, other) in zip(array.shape, pairs, strict=True)
    ]
    if wide.groups == 1:
        factor = 1.0
        for (one, other), role in zip(pairs, wide.roles, strict=True):
            if role == READS and len(one) != len(other):
                factor *= len(one) / len(other)
        values = array[np.ix_(*indices)]
        return values if factor == 1 else (values * factor).astype(array.dtype)
    read, written = indices[-2].reshape(narrow.groups, -1), indices[-1].reshape(narrow.groups, -1)
    members, made = len(wide.axes[-2]) // wide.groups, len(wide.axes[-1]) // wide.groups
    columns = []
    for inputs, outputs in zip(read, written, strict=True):
        if len(np.unique([*(inputs // members), *(outputs // made)])) > 1:
            layer = name.split("/")[0]
            raise UserError(f"a group of {layer} in a branch takes channels of several groups of {layer} in the whole")
        columns.append(array[..., inputs % members, :][..., outputs])
    values = np.concatenate(columns, axis=-1)
    factor = members / read.shape[1]
    return values if factor == 1 else (values * factor).astype(array.dtype)
