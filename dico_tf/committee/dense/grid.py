"""Cascades of segmentation networks: each cell of a grid decides for itself whether the next member looks at it.

The first member sees the whole image. A cell's confidence is the mean over those of its pixels that are surer than
`labelled`: unlabelled places are noise. A cell without any such pixel is unsure. Later members see only the cells that
are, with `context` pixels around each; their answers join the running mean inside the cell. (arXiv 2012.01988, 4.4; the
context is our choice.)
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence

import numpy as np

from dico_tf.committee.confidence import confidence
from dico_tf.committee.decision import Committee, joined, passes
from dico_tf.errors import UserError

Cell = tuple[slice, slice]
Segmenter = Callable[[np.ndarray], np.ndarray]  # images [B, h, w, 3] -> logits [B, h, w, C], any h and w


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grid:
    cell: int = 0  # side in pixels; 0: the whole image is one
    context: int = 32  # pixels around a cell that later members see, too
    labelled: float = 0.5  # pixels whose max prob is not above it do not count
    multiple: int = 16  # windows have sides that are multiples of this, the networks' output stride

    def __post_init__(self) -> None:
        if self.cell < 0 or self.context < 0 or self.multiple < 1 or not 0 <= self.labelled < 1:
            raise UserError(f"{self}: cell and context are pixels, multiple at least 1, labelled a probability below 1")


@dataclasses.dataclass(frozen=True, eq=False)
class DenseDecision:
    logits: np.ndarray  # [H, W, C]
    stage: np.ndarray  # int64 [cells], the last member that looked at each
    confidence: np.ndarray  # float32 [cells, n]; NaN of a member that did not look, and where no pixel counts
    seen: np.ndarray  # [n], pixels each member was shown, as a share of the image


def cells(height: int, width: int, size: int) -> list[Cell]:
    """Row by row; the last of a row or column may be smaller."""
    rows, columns = ([slice(a, min(a + (size or side), side)) for a in range(0, side, size or side)]
                     for side in (height, width))  # fmt: skip
    return list(itertools.product(rows, columns))


def cell_confidences(committee: Committee, answer: np.ndarray, apart: np.ndarray, found: list[Cell], labelled: float):
    """float32 [cells] of an answer [H, W, C] and its members' [k, H, W, C]."""
    surest = _max_prob(answer)
    sure = surest
    if committee.confidence != "max_prob":
        rows = answer.reshape(-1, answer.shape[-1])
        each = np.moveaxis(apart, 0, -2).reshape(len(rows), len(apart), -1)
        sure = confidence(committee.confidence, rows, each).reshape(surest.shape)
    counts = surest > labelled
    lost = np.isnan(sure)
    means = []
    for cell in found:
        kept = sure[cell][counts[cell]]
        means.append(np.nan if lost[cell].any() or not len(kept) else kept.mean(dtype=np.float64))
    return np.asarray(means, np.float32)


def _max_prob(answer: np.ndarray) -> np.ndarray:
    """float32 [H, W]: 1 / sum_c exp(z_c - max z), NaN where a logit is no number.

    Class by class: over a last axis as short as theirs is, NumPy takes several times as long.
    """
    classes = np.ascontiguousarray(np.moveaxis(answer, -1, 0), np.float32)
    top, total = classes.max(0), np.zeros(answer.shape[:-1], np.float32)
    with np.errstate(invalid="ignore"):
        for logits in classes:
            total += np.exp(logits - top)
    found = 1 / total
    found[~np.isfinite(classes).all(0)] = np.nan
    return found


def window(cell: Cell, grid: Grid, height: int, width: int) -> Cell:
    """The cell with its context, its sides multiples, within the image; the whole side where that is shorter."""
    return tuple(_reach(part, grid, side) for part, side in zip(cell, (height, width), strict=True))


def _reach(part: slice, grid: Grid, side: int) -> slice:
    wanted = part.stop - part.start + 2 * grid.context
    wanted = -(-wanted // grid.multiple) * grid.multiple
    if wanted >= side:
        return slice(0, side)
    first = min(max((part.start + part.stop - wanted) // 2, 0), side - wanted)
    return slice(first, first + wanted)


def plan(asked: list[Cell], grid: Grid, height: int, width: int) -> list[tuple[Cell, list[Cell]]]:
    """(window, cells read from it): one for each cell, or the whole image where they would be no smaller."""
    if not asked:
        return []
    windows = [(window(cell, grid, height, width), [cell]) for cell in asked]
    if _share(windows, height, width) >= 1:
        return [((slice(0, height), slice(0, width)), asked)]
    return windows


def _share(windows: list[tuple[Cell, list[Cell]]], height: int, width: int) -> float:
    area = sum((r.stop - r.start) * (c.stop - c.start) for (r, c), _ in windows)
    return area / (height * width)


def routed_dense(committee: Committee, members: Sequence[Segmenter], image: np.ndarray, grid: Grid) -> DenseDecision:
    """Of an image [H, W, 3]: later members see windows of the unsure cells only, those of one size as a batch."""
    height, width = image.shape[:2]
    whole, found = (slice(0, height), slice(0, width)), cells(height, width, grid.cell)
    undecided = np.arange(len(found))
    stage, sure = np.zeros(len(found), np.int64), np.full((len(found), len(members)), np.nan, np.float32)
    seen, answer, apart = np.zeros(len(members)), None, []
    for k, member in enumerate(members):
        asked = [found[n] for n in undecided]
        windows = plan(asked, grid, height, width) if k else [(whole, [whole])]
        said = _looked(member, committee.members[k], image, windows)
        answer = np.zeros((height, width, said[0][1].shape[-1])) if answer is None else answer
        apart.append(_placed(committee, apart, said, answer))
        seen[k] = _share(windows, height, width)
        stage[undecided] = k
        sure[undecided, k] = cell_confidences(committee, answer, np.stack(apart), asked, grid.labelled)
        if k < len(committee.gates):
            undecided = undecided[~passes(sure[undecided, k], committee.gates[k])]
        if not len(undecided):
            break
    return DenseDecision(answer, stage, sure, seen)


def _placed(
    committee: Committee, before: Sequence[np.ndarray], said: list[tuple[Cell, np.ndarray]], answer: np.ndarray
) -> np.ndarray:
    """Add one member's logits of some cells to the answer, in place, and return them alone, float32 [H, W, C].

    before: the same [H, W, C] of each member that looked earlier.
    """
    alone = np.zeros(answer.shape, np.float32)
    for cell, logits in said:
        alone[cell] = logits
        classes = logits.shape[-1]
        rows = np.stack([*(member[cell] for member in before), logits], -2).reshape(-1, len(before) + 1, classes)
        so_far = answer[cell].reshape(-1, classes) if before else None
        answer[cell] = joined(committee, so_far, range(len(before) + 1), rows).reshape(logits.shape)
    return alone


def _looked(
    member: Segmenter, name: str, image: np.ndarray, windows: list[tuple[Cell, list[Cell]]]
) -> list[tuple[Cell, np.ndarray]]:
    """(cell, logits [h, w, C]) of all cells; windows of one size are one batch."""
    by_size: dict[tuple[int, ...], list[tuple[Cell, list[Cell]]]] = {}
    for place, inside in windows:
        by_size.setdefault(image[place].shape, []).append((place, inside))
    said = []
    for shape, group in by_size.items():
        logits = np.asarray(member(np.stack([image[place] for place, _ in group])))
        if logits.dtype.kind != "f" or logits.ndim != 4 or logits.shape[:3] != (len(group), *shape[:2]):
            raise UserError(f"{name} answers images {[len(group), *shape]} with {logits.dtype} {list(logits.shape)}, "
                            f"not floats {[len(group), *shape[:2], 'C']}")  # fmt: skip
        for (place, inside), found in zip(group, logits, strict=True):
            top, left = place[0].start, place[1].start
            said += [(cell, found[cell[0].start - top : cell[0].stop - top, cell[1].start - left : cell[1].stop - left])
                     for cell in inside]  # fmt: skip
    return said
