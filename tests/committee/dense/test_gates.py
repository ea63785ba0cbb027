"""Gates of segmenters, against the loop over settings and images."""

import dataclasses

import numpy as np
import pytest

from dico_tf.committee.decision import ensemble
from dico_tf.committee.dense.gates import curve, swept
from dico_tf.committee.dense.grid import Grid
from dico_tf.errors import UserError
from dico_tf.evaluation.segmentation import confusion, miou
from tests.committee.dense.oracle import decide_dense, measured

RANDOM = np.random.default_rng(0)
VOID = 255


def scene(height=24, width=32, classes=3):
    """(logits [2, H, W, C], mask): the second member is better everywhere, the first only in the left half."""
    mask = RANDOM.integers(0, classes, (height // 8, width // 8)).repeat(8, 0).repeat(8, 1)
    truth = np.eye(classes)[mask]
    noise = RANDOM.normal(size=(2, height, width, classes))
    strength = np.ones((2, height, width, 1)) * np.array([0.2, 3.0]).reshape(2, 1, 1, 1)
    strength[0, :, : width // 2] = 3
    mask = mask.astype(np.uint8)
    mask[0, :5] = VOID
    return (strength * truth + 0.7 * noise).astype(np.float32), mask


SCENES = [scene() for _ in range(6)]
COMMITTEE, GRID = ensemble("a", "b"), Grid(cell=8, context=0, multiple=1, labelled=0.0)


@pytest.mark.parametrize("grid", [GRID, Grid(labelled=0.0), Grid(cell=9, context=2, multiple=4)])
def test_every_setting_is_what_its_images_become(grid):
    found = measured(COMMITTEE, SCENES, grid)
    every, values, price = swept(found, [1.0, 4.0], 7)
    for setting in range(every.settings):
        gated = dataclasses.replace(COMMITTEE, gates=every.gates(setting))
        decisions = [decide_dense(gated, apart, grid) for apart, _ in SCENES]
        table = sum(confusion(d.logits.argmax(-1), mask, 3) for d, (_, mask) in zip(decisions, SCENES, strict=True))
        assert values[setting] == pytest.approx(miou(table), abs=1e-12)
        real = np.mean([d.seen @ [1.0, 4.0] for d in decisions])
        assert price[setting] == pytest.approx(real)


def test_cells_save_what_whole_images_cannot():
    """Half of every image is easy: a grid asks the second member about the other half only."""
    best = {}
    for name, grid in (("grid", GRID), ("whole", Grid(labelled=0.0))):
        points = curve(COMMITTEE, measured(COMMITTEE, SCENES, grid), [1.0, 4.0])
        ensemble_miou = swept(measured(COMMITTEE, SCENES, grid), [1.0, 4.0])[1][-1]
        best[name] = min((p.cost for p in points if p.quality >= 0.99 * ensemble_miou), default=np.inf)
        assert [p.cost for p in points] == sorted(p.cost for p in points)
        assert [p.quality for p in points] == sorted(p.quality for p in points)
    assert best["grid"] < 0.75 * best["whole"]


def test_what_stands_under_void_does_not_matter():
    changed = [(apart.copy(), mask) for apart, mask in SCENES]
    for apart, mask in changed:
        apart[:, mask == VOID] = apart[:, mask == VOID][..., ::-1]
    found, other = (measured(COMMITTEE, scenes, Grid(labelled=0.0)) for scenes in (SCENES, changed))
    assert (found.counts == other.counts).all()


def test_no_images_are_an_error():
    with pytest.raises(UserError, match="no images"):
        measured(COMMITTEE, [], GRID)
