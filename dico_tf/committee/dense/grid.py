"""Cascades of segmentation networks: every cell of a grid decides by itself whether the next member runs on it.

The first member sees the whole image. The confidence of a cell is the mean over its pixels whose largest probability is
above `labelled`, because unlabelled places are noise; a cell without such a pixel is unsure. Later members see only the
unsure cells, with `context` pixels around each, and their answers enter the average inside the cell. (arXiv 2012.01988,
section 4.4; the context is our choice.)
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence

import numpy as np

from dico_tf.committee.decision import Committee, confidence, joined, passes
from dico_tf.errors import UserError

Cell = tuple[slice, slice]
SegmentationNetwork = Callable[[np.ndarray], np.ndarray]  # images [B, h, w, 3] -> logits [B, h, w, C], any h and w


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grid:
    """Cells of a cascade over an image.

    Attributes:
        cell: side in pixels; 0: the whole image is one cell.
        context: pixels around a cell that later members also see.
        labelled: a pixel counts in a cell's confidence if its largest probability is above this.
        multiple: windows have sides that are multiples of this, the networks' output stride.
    """

    cell: int = 0
    context: int = 32
    labelled: float = 0.5
    multiple: int = 16

    def __post_init__(self) -> None:
        for name, least in (("cell", 0), ("context", 0), ("multiple", 1)):
            if getattr(self, name) < least:
                raise UserError(f"{name} of the grid of cells must be at least {least}, got {getattr(self, name)}")
        if not 0 <= self.labelled < 1:
            raise UserError(f"labelled of the grid of cells must be at least 0 and below 1, got {self.labelled}")


@dataclasses.dataclass(frozen=True, eq=False)
class DenseDecision:
    """Answer of a cascade to one image."""

    logits: np.ndarray  # [H, W, C]
    stage: np.ndarray  # int64 [cells], the last member that ran on each
    confidence: np.ndarray  # float32 [cells, n]; NaN if the member did not run there, or no pixel counts
    seen: np.ndarray  # [n], pixels that each member saw, as a share of the image


def cells(height: int, width: int, size: int) -> list[Cell]:
    """Return the square cells of an image as (rows, columns) slices, row by row; the last ones may be smaller.

    size: side in pixels; 0 makes the whole image one cell.
    """
    rows, columns = (
        [slice(a, min(a + (size or side), side)) for a in range(0, side, size or side)] for side in (height, width)
    )
    return list(itertools.product(rows, columns))


def cell_confidences(committee: Committee, answer: np.ndarray, apart: np.ndarray, places: list[Cell], labelled: float):
    """Return the confidence of each cell of `places`, float32 [cells]: the mean of its pixels' confidences.

    Only pixels whose largest probability is above `labelled` enter the mean. A cell without such a pixel is NaN. So is
    a cell in which the confidence of any pixel is NaN.

    Args:
        answer: combined logits [H, W, C] of the members so far.
        apart: logits [k, H, W, C] of each of these members.
    """
    surest = _max_prob(answer)
    sure = surest
    if committee.confidence != "max_prob":
        rows = answer.reshape(-1, answer.shape[-1])
        each = np.moveaxis(apart, 0, -2).reshape(len(rows), len(apart), -1)
        sure = confidence(committee.confidence, rows, each).reshape(surest.shape)
    counts = surest > labelled
    lost = np.isnan(sure)
    means = []
    for cell in places:
        counted = sure[cell][counts[cell]]
        means.append(np.nan if lost[cell].any() or not len(counted) else counted.mean(dtype=np.float64))
    return np.asarray(means, np.float32)


def _max_prob(answer: np.ndarray) -> np.ndarray:
    """Return float32 [H, W]: 1 / sum_c exp(z_c - max z), NaN where a logit is NaN or infinite.

    It loops over the classes, because NumPy is several times slower along a short last axis.
    """
    classes = np.ascontiguousarray(np.moveaxis(answer, -1, 0), np.float32)
    top, total = classes.max(0), np.zeros(answer.shape[:-1], np.float32)
    with np.errstate(invalid="ignore"):
        for logits in classes:
            total += np.exp(logits - top)
    surest = 1 / total
    surest[~np.isfinite(classes).all(0)] = np.nan
    return surest


def window(cell: Cell, grid: Grid, height: int, width: int) -> Cell:
    """Return what a member sees for a cell: with context, sides rounded up to multiples, moved into the image.

    A side that would be longer than the image is the image's.
    """
    return tuple(_reach(part, grid, side) for part, side in zip(cell, (height, width), strict=True))


def _reach(part: slice, grid: Grid, side: int) -> slice:
    """Return the range of a window along one axis of length `side`; the whole axis if the window would be longer."""
    wanted = part.stop - part.start + 2 * grid.context
    wanted = -(-wanted // grid.multiple) * grid.multiple
    if wanted >= side:
        return slice(0, side)
    first = min(max((part.start + part.stop - wanted) // 2, 0), side - wanted)
    return slice(first, first + wanted)


def plan(unsure: list[Cell], grid: Grid, height: int, width: int) -> list[tuple[Cell, list[Cell]]]:
    """Return the windows to run for the unsure cells, each with the cells that are read from it.

    Each cell has its own window; if these together are no smaller than the image, all share the whole image.
    """
    if not unsure:
        return []
    windows = [(window(cell, grid, height, width), [cell]) for cell in unsure]
    if _share(windows, height, width) >= 1:
        return [((slice(0, height), slice(0, width)), unsure)]
    return windows


def _share(windows: list[tuple[Cell, list[Cell]]], height: int, width: int) -> float:
    area = sum((r.stop - r.start) * (c.stop - c.start) for (r, c), _ in windows)
    return area / (height * width)


def routed_dense(
    committee: Committee, members: Sequence[SegmentationNetwork], image: np.ndarray, grid: Grid
) -> DenseDecision:
    """Return the decision of a cascade on one image [H, W, 3].

    The first member sees the whole image, later ones windows of the unsure cells. Windows of one size are one batch.
    """
    height, width = image.shape[:2]
    whole, places = (slice(0, height), slice(0, width)), cells(height, width, grid.cell)
    undecided = np.arange(len(places))
    stage, sure = np.zeros(len(places), np.int64), np.full((len(places), len(members)), np.nan, np.float32)
    seen, answer, apart = np.zeros(len(members)), None, []
    for k, member in enumerate(members):
        unsure = [places[n] for n in undecided]
        windows = plan(unsure, grid, height, width) if k else [(whole, [whole])]
        logits = _run(member, committee.members[k], image, windows)
        answer = np.zeros((height, width, logits[0][1].shape[-1])) if answer is None else answer
        apart.append(_placed(committee, apart, logits, answer))
        seen[k] = _share(windows, height, width)
        stage[undecided] = k
        sure[undecided, k] = cell_confidences(committee, answer, np.stack(apart), unsure, grid.labelled)
        if k < len(committee.gates):
            undecided = undecided[~passes(sure[undecided, k], committee.gates[k])]
        if not len(undecided):
            break
    return DenseDecision(answer, stage, sure, seen)


def _placed(
    committee: Committee, before: Sequence[np.ndarray], parts: list[tuple[Cell, np.ndarray]], answer: np.ndarray
) -> np.ndarray:
    """Combine one member's logits of some cells into `answer`, in place.

    Returns the member's logits of these cells as float32 [H, W, C], with 0 outside the cells.

    Args:
        before: logits [H, W, C] of each member that ran earlier, as this function returned them.
        parts: (cell, the member's logits of it).
    """
    alone = np.zeros(answer.shape, np.float32)
    for cell, logits in parts:
        alone[cell] = logits
        classes = logits.shape[-1]
        rows = np.stack([*(member[cell] for member in before), logits], -2).reshape(-1, len(before) + 1, classes)
        so_far = answer[cell].reshape(-1, classes) if before else None
        answer[cell] = joined(committee, so_far, range(len(before) + 1), rows).reshape(logits.shape)
    return alone


def _run(
    member: SegmentationNetwork, name: str, image: np.ndarray, windows: list[tuple[Cell, list[Cell]]]
) -> list[tuple[Cell, np.ndarray]]:
    """Return (cell, logits [h, w, C]) of all cells; windows of one size are one batch."""
    by_size: dict[tuple[int, ...], list[tuple[Cell, list[Cell]]]] = {}
    for place, inside in windows:
        by_size.setdefault(image[place].shape, []).append((place, inside))
    parts = []
    for shape, group in by_size.items():
        logits = np.asarray(member(np.stack([image[place] for place, _ in group])))
        if logits.dtype.kind != "f" or logits.ndim != 4 or logits.shape[:3] != (len(group), *shape[:2]):
            raise UserError(
                f"expected floats [{len(group)}, {shape[0]}, {shape[1]}, C] from {name} for images "
                f"{[len(group), *shape]}, got {logits.dtype} {list(logits.shape)}"
            )
        for (place, inside), window_logits in zip(group, logits, strict=True):
            top, left = place[0].start, place[1].start
            for rows, columns in inside:
                own = slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)
                parts.append(((rows, columns), window_logits[own]))
    return parts
