"""Which segmentation networks to ask, over what cells, behind what gates: mIoU against average cost."""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np

from dico_tf.committee.decision import Committee, ensemble
from dico_tf.committee.dense import gates
from dico_tf.committee.dense.gates import Cells
from dico_tf.committee.dense.grid import Grid
from dico_tf.errors import UserError
from dico_tf.evaluation.segmentation import confusion, miou

Place = tuple[tuple[str, ...], Grid]  # who is asked in what order, over what cells
WHOLE = Grid()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
    committee: Committee
    grid: Grid
    miou: float  # of the images it was found by
    cost: float  # average of an image


@dataclasses.dataclass(frozen=True, kw_only=True)
class Goal:
    miou: float = math.nan  # to be reached at the least cost; NaN: the most within the budget
    budget: float = math.inf  # average cost of an image


class Pool:
    """What is known of some images, one by one, under every order of members, the cheaper first, and every grid."""

    def __init__(self, costs: Mapping[str, float], grids: Sequence[Grid], largest: int, **how) -> None:
        if len(costs) < 2:
            raise UserError(f"a cascade has several members, not {', '.join(costs) or 'none'}: give --members of two")
        self.costs, self.grids, self.how = dict(costs), tuple(grids), how
        self.names = sorted(costs, key=costs.__getitem__)
        sizes = range(2, min(largest, len(costs)) + 1)
        self.orders = [order for size in sizes for order in itertools.combinations(self.names, size)]
        self._parts: dict[Place, list[Cells]] = {place: [] for place in itertools.product(self.orders, self.grids)}
        self._alone: dict[str, list[np.ndarray]] = {name: [] for name in self.names}

    def add(self, logits: Mapping[str, np.ndarray], mask: np.ndarray) -> None:
        """What each member says about one whole image, [H, W, C], and its mask [H, W]."""
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
        """Confusion of every image by the cheapest member."""
        return self._alone[self.names[0]]

    def prices(self, order: Sequence[str]) -> list[float]:
        return [self.costs[name] for name in order]

    def cells(self, order: tuple[str, ...], grid: Grid) -> Cells:
        """Of all images; put together once, and kept so."""
        parts = self._parts[order, grid]
        if len(parts) > 1:
            parts[:] = [gates.together(parts)]
        return parts[0]

    def decided(self, committee: Committee, grid: Grid) -> tuple[np.ndarray, float]:
        """(confusion of every image [N, C, C], average cost) of a cascade, an ensemble, or a member alone."""
        order = committee.members
        if len(order) == 1:
            return np.stack(self._alone[order[0]]), self.costs[order[0]]
        return gates.decided(committee, self.cells(order, grid), self.prices(order))

    def single(self, name: str) -> Point:
        return self.point(Committee(members=(name,), **self.how), WHOLE)

    def together(self, order: Sequence[str]) -> Point:
        """All of them, always."""
        return self.point(ensemble(*order, **self.how), self.grids[0])

    def point(self, committee: Committee, grid: Grid) -> Point:
        counts, cost = self.decided(committee, grid)
        return Point(committee=committee, grid=grid, miou=miou(counts.sum(0)) or 0.0, cost=cost)


def curves(pool: Pool, percentiles: int) -> dict[Place, list[Point]]:
    """The front of each order and grid."""
    found = {}
    for order in pool.orders:
        for grid in pool.grids:
            points = gates.curve(ensemble(*order, **pool.how), pool.cells(order, grid), pool.prices(order), percentiles)
            found[order, grid] = [Point(committee=p.committee, grid=grid, miou=p.miou, cost=p.cost) for p in points]
    return found


def front(points: Sequence[Point]) -> list[Point]:
    """Those that no other beats in both; rising."""
    best = []
    for point in sorted(points, key=lambda p: (p.cost, -p.miou)):
        if not best or point.miou > best[-1].miou:
            best.append(point)
    return best


def chosen(points: Sequence[Point], goal: Goal) -> Point:
    """Of a front: the cheapest that reaches the goal's mIoU, or the best within its budget."""
    within = [point for point in points if point.cost <= goal.budget]
    if not within:
        raise UserError(f"--budget={goal.budget:.4g} is less than the cheapest member's {points[0].cost:.4g} an image")
    if math.isnan(goal.miou):
        return within[-1]
    reaching = [point for point in within if point.miou >= goal.miou]
    if not reaching:
        raise UserError(f"no committee within the budget reaches mIoU {goal.miou:.4f}: the best has "
                        f"{within[-1].miou:.4f}, at {within[-1].cost:.4g} an image")  # fmt: skip
    return reaching[0]


def interval_of_difference(one: np.ndarray, other: np.ndarray, seed: int = 0, times: int = 1000) -> tuple[float, float]:
    """95 % interval of mIoU(one) - mIoU(other), of confusions [N, C, C], by drawing the images anew."""
    images, classes = one.shape[:2]
    drawn = np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), times)
    values = []
    for each in (one, other):
        tables = np.rint(drawn @ each.reshape(images, -1)).astype(np.int64).reshape(-1, classes, classes)
        values.append([miou(table) or 0.0 for table in tables])
    low, high = np.quantile(np.subtract(*values), (0.025, 0.975))
    return float(low), float(high)
