"""Segmentation networks on held-out images, cell by cell: the input of a search by mIoU."""

import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from dico_tf.committee.decision import Committee, ensemble
from dico_tf.committee.dense import gates
from dico_tf.committee.dense.gates import Cells
from dico_tf.committee.dense.grid import Grid
from dico_tf.committee.search import Goal, Point, Space
from dico_tf.errors import UserError
from dico_tf.evaluation.segmentation import confusion, miou

Arrangement = tuple[tuple[str, ...], Grid]  # a combination of members, the cheaper first, and the grid
WHOLE = Grid()


class CellPool:
    """Confusion and confidence of every cell of some images, for every grid and every combination of members.

    Images come one by one, by `add`. The members of a combination are ordered by rising cost.

    Args:
        costs: multiply-adds of an image for each member.
        grids: those that every combination is tried with; a single member always sees whole images.
        largest: combinations have from 2 to this many members.
        how: `confidence` and `average` of the committees.
    """

    def __init__(self, costs: Mapping[str, float], grids: Sequence[Grid], largest: int, **how: str) -> None:
        if len(costs) < 2:
            raise UserError(f"expected at least two members, got {', '.join(costs) or 'none'}: give more --members")
        self.costs, self.grids, self.how = dict(costs), tuple(grids), how
        self.members = tuple(sorted(costs, key=costs.__getitem__))
        sizes = range(2, min(largest, len(costs)) + 1)
        self.orders = [order for size in sizes for order in itertools.combinations(self.members, size)]
        self._parts: dict[Arrangement, list[Cells]] = {each: [] for each in itertools.product(self.orders, self.grids)}
        self._alone: dict[str, list[np.ndarray]] = {name: [] for name in self.members}
        self._curves: dict[tuple[Arrangement, int], list[Point]] = {}

    def add(self, logits: Mapping[str, np.ndarray], mask: np.ndarray) -> None:
        """Add one image: the logits [H, W, C] of each member by name, and the mask [H, W] of its true classes."""
        self._curves.clear()
        for name, alone in self._alone.items():
            alone.append(confusion(logits[name].argmax(-1), mask, logits[name].shape[-1]))
        for (order, grid), parts in self._parts.items():
            apart = np.stack([logits[name] for name in order])
            parts.append(gates.of_image(ensemble(*order, **self.how), apart, mask, grid))

    @property
    def images(self) -> int:
        return len(self.alone)

    @property
    def alone(self) -> list[np.ndarray]:
        """Confusion matrix int64 [C, C] of the cheapest member alone, for each image."""
        return self._alone[self.members[0]]

    def cost(self, member: str, measure: str = "macs") -> float:
        return self.costs[member]

    def costs_of(self, order: Sequence[str]) -> list[float]:
        return [self.costs[name] for name in order]

    def cells(self, order: tuple[str, ...], grid: Grid) -> Cells:
        """Return the cells of all images for one combination of members and one grid."""
        parts = self._parts[order, grid]
        if len(parts) > 1:
            parts[:] = [gates.together(parts)]
        return parts[0]

    def decided(self, committee: Committee, grid: Grid) -> tuple[np.ndarray, float]:
        """Return (confusion of every image int64 [N, C, C], average cost of an image) of a committee of any kind.

        `grid` has no effect on a single member.
        """
        order = committee.members
        if len(order) == 1:
            return np.stack(self._alone[order[0]]), self.costs[order[0]]
        return gates.decided(committee, self.cells(order, grid), self.costs_of(order))

    def template(self, members: Sequence[str], space: Space | None = None) -> Committee:
        """Return the ensemble of these members, or of one member a committee of it alone.

        The constructor sets its confidence and average; `space` has no effect.
        """
        return ensemble(*members, **self.how)

    def everyone(self, space: Space | None = None, goal: Goal | None = None) -> tuple[str, ...]:
        """Return the members of the full ensemble, the cheapest first: as many of the most expensive as `largest` says.

        `largest` is the constructor's; with fewer members, it is all of them. `space` and `goal` have no effect.
        """
        return self.orders[-1]

    def point(self, committee: Committee, grid: Grid | None = None) -> Point:
        """Return a committee's mIoU and cost; by default, the grid is whole images for one member, else `grids[0]`."""
        grid = grid or (WHOLE if len(committee.members) == 1 else self.grids[0])
        counts, cost = self.decided(committee, grid)
        value = miou(counts.sum(0)) or 0.0
        return Point(committee=committee, grid=grid, quality=value, score=value, cost=cost)

    def candidates(self, space: Space, goal: Goal) -> list[str | Arrangement]:
        """Return each member alone, then each combination of members with each grid.

        `space` and `goal` have no effect.
        """
        return [*self.members, *self._parts]

    def curve(self, order: tuple[str, ...], grid: Grid, percentiles: int) -> list[Point]:
        """Return the settings of one combination and grid that no other beats in mIoU and average cost, by rising cost.

        For each gate, up to `percentiles` values are tried, and NEVER.
        """
        key = (order, grid), percentiles
        if key not in self._curves:
            cells = self.cells(order, grid)
            self._curves[key] = gates.curve(self.template(order), cells, self.costs_of(order), percentiles, grid)
        return self._curves[key]

    def curves(self, percentiles: int) -> dict[Arrangement, list[Point]]:
        """Return `curve` for every combination and grid."""
        return {(order, grid): self.curve(order, grid, percentiles) for order, grid in self._parts}

    def fronts(self, space: Space, goal: Goal) -> Iterator[list[Point]]:
        """Yield, for each candidate in turn, the settings within the budget that no other beats in cost and mIoU."""
        for candidate in self.candidates(space, goal):
            alone = isinstance(candidate, str)
            points = [self.point(self.template([candidate]))] if alone else self.curve(*candidate, space.percentiles)
            yield [point for point in points if goal.allows(point.cost)]
