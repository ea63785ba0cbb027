"""Segmentation committees decided from everything at once: what routing and gates are compared with."""

from collections.abc import Iterable

import numpy as np

from dico_tf.committee.decision import Committee, passes, running
from dico_tf.committee.dense.gates import Cells, of_image, together
from dico_tf.committee.dense.grid import Cell, DenseDecision, Grid, cell_confidences, cells, plan


def area(place: Cell) -> int:
    rows, columns = place
    return (rows.stop - rows.start) * (columns.stop - columns.start)


def decide_dense(committee: Committee, apart: np.ndarray, grid: Grid) -> DenseDecision:
    """From logits [n, H, W, C] of all members about the whole image: as if context did not end."""
    _, height, width, classes = apart.shape
    found = cells(height, width, grid.cell)
    pixels = np.moveaxis(apart, 0, -2).reshape(-1, len(apart), classes)
    answers = [answer.reshape(height, width, classes) for answer in running(committee, pixels)]
    confidences = np.stack(
        [cell_confidences(committee, a, apart[: k + 1], found, grid.labelled) for k, a in enumerate(answers)], 1
    )
    passed = [passes(confidences[:, k], gate) for k, gate in enumerate(committee.gates)]
    stage = np.stack([*passed, np.ones(len(found), bool)], 1).argmax(1)
    logits = np.empty((height, width, classes))
    for cell, last in zip(found, stage, strict=True):
        logits[cell] = answers[last][cell]
    asked = [stage >= k for k in range(len(apart))]
    seen = [1.0]
    for who in asked[1:]:
        windows = plan([cell for cell, yes in zip(found, who, strict=True) if yes], grid, height, width)
        seen.append(sum(area(place) for place, _ in windows) / (height * width))
    confidences[~np.stack(asked, 1)] = np.nan
    return DenseDecision(logits, stage, confidences, np.asarray(seen))


def measured(committee: Committee, images: Iterable[tuple[np.ndarray, np.ndarray]], grid: Grid) -> Cells:
    """images: (logits [n, H, W, C] of all members, mask [H, W]); from whole images, as if context did not end."""
    return together([of_image(committee, apart, mask, grid) for apart, mask in images])
