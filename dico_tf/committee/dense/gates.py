"""Gates of cascades of segmentation networks: mIoU and cost of every setting, over held-out images."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from dico_tf.committee.decision import Committee, running, stage_of
from dico_tf.committee.dense.grid import Grid, cell_confidences, cells, window
from dico_tf.committee.search import Point
from dico_tf.committee.sweep import Sweep, sweep
from dico_tf.errors import UserError
from dico_tf.evaluation.segmentation import confusion, miou


@dataclasses.dataclass(frozen=True, eq=False)
class Cells:
    """Results of M cells after each of n members: confidence, confusion, share of the image it sees for the cell."""

    confidences: np.ndarray  # float32 [M, n]
    counts: np.ndarray  # int64 [M, n, C, C], confusion of the cell's pixels
    shares: np.ndarray  # float64 [M, n], share of the image that each member sees for this cell
    image: np.ndarray  # int64 [M], index of the cell's image

    @property
    def images(self) -> int:
        return int(self.image[-1]) + 1

    def seen(self, stage: np.ndarray) -> np.ndarray:
        """Return the average share of an image that each member sees, [n], if each cell stops at its stage [M].

        It is 1 for the first member; the windows of an image together count as at most the whole image.
        """
        seen = [1.0]  # the first sees every image whole
        for k in range(1, self.shares.shape[1]):
            windows = np.bincount(self.image, self.shares[:, k] * (stage >= k))
            seen.append(float(np.minimum(windows, 1).mean()))
        return np.asarray(seen)


def of_image(committee: Committee, apart: np.ndarray, mask: np.ndarray, grid: Grid) -> Cells:
    """Return the cells of one image from the members' logits [n, H, W, C] and its mask [H, W]."""
    members, height, width, classes = apart.shape
    places = cells(height, width, grid.cell)
    pixels = np.moveaxis(apart, 0, -2).reshape(-1, members, classes)
    answers = [answer.reshape(height, width, classes) for answer in running(committee, pixels)]
    confidences = [
        cell_confidences(committee, answer, apart[: k + 1], places, grid.labelled) for k, answer in enumerate(answers)
    ]
    classes_of = [answer.argmax(-1) for answer in answers]
    counts = [[confusion(each[cell], mask[cell], classes) for each in classes_of] for cell in places]
    shares = [_shares(cell, members, grid, height, width) for cell in places]
    return Cells(np.stack(confidences, 1), np.asarray(counts), np.asarray(shares), np.zeros(len(places), np.int64))


def together(parts: Sequence[Cells]) -> Cells:
    """Return the cells of several images in one table, from one part for each image."""
    if not parts:
        raise UserError("expected the cells of at least one image, got no images: give images with masks")
    number = np.repeat(np.arange(len(parts)), [len(part.image) for part in parts])
    joined = [np.concatenate([getattr(part, name) for part in parts]) for name in ("confidences", "counts", "shares")]
    return Cells(*joined, number)


def _shares(cell: tuple[slice, slice], members: int, grid: Grid, height: int, width: int) -> list[float]:
    """Return the share of the image that each member sees for a cell: the first its own area, others its window."""
    own, seen = (
        (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width)
        for rows, columns in (cell, window(cell, grid, height, width))
    )
    return [own] + [seen] * (members - 1)


def swept(table: Cells, costs: Sequence[float], percentiles: int = 50) -> tuple[Sweep, np.ndarray, np.ndarray]:
    """Return (settings of the gates, mIoU of each, average cost of an image of each).

    For each gate, up to `percentiles` values are tried, and NEVER. `costs` are those of a whole image, for each member.
    """
    classes = table.counts.shape[-1]
    settings = sweep(table.confidences, table.counts.reshape(*table.counts.shape[:2], -1), percentiles)
    tables = np.rint(settings.score).astype(np.int64).reshape(-1, classes, classes)
    values = np.array([miou(table) for table in tables], np.float64)
    stages = (stage_of(table.confidences, settings.gates(setting)) for setting in range(settings.settings))
    return settings, values, np.array([table.seen(stage) @ np.asarray(costs) for stage in stages])


def curve(
    committee: Committee, table: Cells, costs: Sequence[float], percentiles: int = 50, grid: Grid | None = None
) -> list[Point]:
    """Return the settings of a committee's gates that no other beats in mIoU and average cost, by rising cost.

    Args:
        costs: of a whole image, for each member.
        grid: stored in the points.
    """
    settings, values, cost = swept(table, costs, percentiles)
    points: list[Point] = []
    for setting in np.lexsort((-values, cost)):
        if not points or values[setting] > points[-1].score:
            gated = dataclasses.replace(committee, gates=settings.gates(int(setting)))
            value = float(values[setting])
            points.append(Point(committee=gated, quality=value, score=value, cost=float(cost[setting]), grid=grid))
    return points


def decided(committee: Committee, table: Cells, costs: Sequence[float]) -> tuple[np.ndarray, float]:
    """Return (confusion of every image int64 [N, C, C], average cost of an image) under the committee's gates.

    `costs` are those of a whole image, for each member.
    """
    stage = stage_of(table.confidences, committee.gates)
    each = np.arange(len(stage))
    counts = np.zeros((table.images, *table.counts.shape[2:]), np.int64)
    np.add.at(counts, table.image, table.counts[each, stage])
    return counts, float(table.seen(stage) @ np.asarray(costs))
