"""Gates for cascades of segmentation networks, by mIoU over held-out images."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from dico_tf.committee.decision import Committee, running, stage_of
from dico_tf.committee.dense.grid import Grid, cell_confidences, cells, window
from dico_tf.committee.sweep import Sweep, sweep
from dico_tf.errors import UserError
from dico_tf.evaluation.segmentation import confusion, miou


@dataclasses.dataclass(frozen=True, eq=False)
class Cells:
    """What every cell of some images would cost and be worth if it stopped at each member."""

    confidences: np.ndarray  # float32 [M, n]
    counts: np.ndarray  # int64 [M, n, C, C], confusion of the cell's pixels
    shares: np.ndarray  # float64 [M, n], of its image that each member would be shown for it
    image: np.ndarray  # int64 [M], which one it is of

    @property
    def images(self) -> int:
        return int(self.image[-1]) + 1

    def shown(self, stage: np.ndarray) -> np.ndarray:
        """Share of an image that each member sees, [n], where cells stop at these stages: of no image more than all."""
        seen = [1.0]  # the first sees every image whole
        for k in range(1, self.shares.shape[1]):
            windows = np.bincount(self.image, self.shares[:, k] * (stage >= k))
            seen.append(float(np.minimum(windows, 1).mean()))
        return np.asarray(seen)


@dataclasses.dataclass(frozen=True, eq=False)
class DensePoint:
    committee: Committee
    miou: float
    cost: float  # average of an image


def of_image(committee: Committee, apart: np.ndarray, mask: np.ndarray, grid: Grid) -> Cells:
    members, height, width, classes = apart.shape
    found = cells(height, width, grid.cell)
    pixels = np.moveaxis(apart, 0, -2).reshape(-1, members, classes)
    answers = [answer.reshape(height, width, classes) for answer in running(committee, pixels)]
    confidences = [
        cell_confidences(committee, answer, apart[: k + 1], found, grid.labelled) for k, answer in enumerate(answers)
    ]
    said = [answer.argmax(-1) for answer in answers]
    counts = [[confusion(each[cell], mask[cell], classes) for each in said] for cell in found]
    shares = [_shares(cell, members, grid, height, width) for cell in found]
    return Cells(np.stack(confidences, 1), np.asarray(counts), np.asarray(shares), np.zeros(len(found), np.int64))


def together(parts: Sequence[Cells]) -> Cells:
    """Of one image each -> of all."""
    if not parts:
        raise UserError("there are no images to fit the gates to")
    number = np.repeat(np.arange(len(parts)), [len(part.image) for part in parts])
    joined = [np.concatenate([getattr(part, name) for part in parts]) for name in ("confidences", "counts", "shares")]
    return Cells(*joined, number)


def _shares(cell: tuple[slice, slice], members: int, grid: Grid, height: int, width: int) -> list[float]:
    """The first member sees the whole image once, which every cell bears by its area; later ones windows."""
    own, seen = (
        (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width)
        for rows, columns in (cell, window(cell, grid, height, width))
    )
    return [own] + [seen] * (members - 1)


def swept(found: Cells, costs: Sequence[float], percentiles: int = 50) -> tuple[Sweep, np.ndarray, np.ndarray]:
    """(sweep, mIoU, average cost of an image) of every setting."""
    classes = found.counts.shape[-1]
    every = sweep(found.confidences, found.counts.reshape(*found.counts.shape[:2], -1), percentiles)
    tables = np.rint(every.score).astype(np.int64).reshape(-1, classes, classes)
    values = np.array([miou(table) for table in tables], np.float64)
    stages = (stage_of(found.confidences, every.gates(setting)) for setting in range(every.settings))
    return every, values, np.array([found.shown(stage) @ np.asarray(costs) for stage in stages])


def curve(committee: Committee, found: Cells, costs: Sequence[float], percentiles: int = 50) -> list[DensePoint]:
    """The front of mIoU against average cost."""
    every, values, price = swept(found, costs, percentiles)
    points = []
    for setting in np.lexsort((-values, price)):
        if not points or values[setting] > points[-1].miou:
            gated = dataclasses.replace(committee, gates=every.gates(int(setting)))
            points.append(DensePoint(gated, float(values[setting]), float(price[setting])))
    return points


def decided(committee: Committee, found: Cells, costs: Sequence[float]) -> tuple[np.ndarray, float]:
    """(confusion of every image int64 [N, C, C], average cost of an image) under the committee's gates."""
    stage = stage_of(found.confidences, committee.gates)
    each = np.arange(len(stage))
    counts = np.zeros((found.images, *found.counts.shape[2:]), np.int64)
    np.add.at(counts, found.image, found.counts[each, stage])
    return counts, float(found.shown(stage) @ np.asarray(costs))
