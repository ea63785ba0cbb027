"""Cells of a grid decide for themselves."""

import numpy as np
import pytest

from dico_tf.committee.decision import ALWAYS, NEVER, Committee, decide, ensemble
from dico_tf.committee.dense.grid import Grid, cells, plan, routed_dense, window
from dico_tf.errors import UserError
from tests.committee.dense.oracle import decide_dense

H, W, C = 50, 70, 4
RANDOM = np.random.default_rng(0)
IMAGE = RANDOM.uniform(0, 255, (H, W, 3)).astype(np.float32)
MIXES = [RANDOM.normal(size=(3, C)) / 40 for _ in range(3)]


class Pixelwise:
    """Logits of a pixel depend on it alone, so that no context is missed; it remembers what it was shown."""

    def __init__(self, mix):
        self.mix, self.shown = mix, []

    def __call__(self, images):
        self.shown.append(images.shape)
        return (images @ self.mix).astype(np.float32)


def members():
    return [Pixelwise(mix) for mix in MIXES]


APART = np.stack([member(IMAGE[None])[0] for member in members()])


def cascade(n, *gates, **how):
    return Committee(members=tuple("abc")[:n], gates=gates, **how)


@pytest.mark.parametrize("gate", [0.55, 0.6, 0.7])
def test_one_cell_is_the_decision_about_the_whole_image(gate):
    found = decide_dense(cascade(2, gate), APART[:2], Grid(labelled=0.0))
    pixels = decide(ensemble("a", "b"), np.moveaxis(APART[:2], 0, -2).reshape(-1, 2, C))
    sure = pixels.confidence[:, 0].mean() >= gate
    assert found.stage.tolist() == [0 if sure else 1]
    expected = APART[0] if sure else APART[:2].mean(0)
    assert found.logits == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("cell", [0, 16, 23])
def test_all_stop_is_the_first_member_and_none_is_the_ensemble(cell):
    grid = Grid(cell=cell, labelled=0.0)
    for gate, expected, seen in ((ALWAYS, APART[0], [1, 0]), (NEVER, APART[:2].mean(0), [1, 1])):
        for found in (
            decide_dense(cascade(2, gate), APART[:2], grid),
            routed_dense(cascade(2, gate), members()[:2], IMAGE, grid),
        ):
            assert found.logits == pytest.approx(expected, abs=1e-5)
            assert found.seen.tolist() == seen


@pytest.mark.parametrize("cell", [0, 16, 23, 64])
@pytest.mark.parametrize("confidence", ["max_prob", "prob_gap", "entropy", "agreement"])
def test_routing_is_the_dense_decision_where_context_does_not_matter(cell, confidence):
    gate = {"max_prob": 0.62, "prob_gap": 0.4, "entropy": -0.9, "agreement": 0.8}[confidence]
    committee = cascade(3, gate, gate, confidence=confidence)
    grid = Grid(cell=cell, context=3, multiple=8, labelled=0.3)
    dense, really = decide_dense(committee, APART, grid), routed_dense(committee, members(), IMAGE, grid)
    assert (dense.stage == really.stage).all()
    assert dense.logits == pytest.approx(really.logits, abs=1e-5)
    assert dense.seen == pytest.approx(really.seen)
    assert np.array_equal(np.isnan(dense.confidence), np.isnan(really.confidence))


def test_members_see_windows_of_the_unsure_cells_only():
    used, grid = members()[:2], Grid(cell=10, context=2, multiple=4, labelled=0.0)
    first = decide_dense(cascade(2, NEVER), APART[:2], grid).confidence[:, 0]
    gate = float(np.sort(first)[3])
    found = routed_dense(cascade(2, gate), used, IMAGE, grid)
    assert (found.stage == 1).sum() == 3 and len(found.stage) == 35
    shown = [shape for shape in used[1].shown for _ in range(shape[0])]
    assert len(shown) == 3 and all(shape[1] % 4 == 0 and shape[2] % 4 == 0 for shape in shown)
    area = sum(shape[1] * shape[2] for shape in shown) / (H * W)
    assert found.seen[1] == pytest.approx(area) and area < 0.25


def test_ragged_borders_are_cells_too_and_cover_every_pixel_once():
    covered = np.zeros((H, W), int)
    for cell in cells(H, W, 16):
        covered[cell] += 1
    assert (covered == 1).all() and len(cells(H, W, 16)) == 4 * 5
    assert cells(H, W, 0) == [(slice(0, H), slice(0, W))] == cells(H, W, 100)


@pytest.mark.parametrize("cell", cells(H, W, 16))
def test_a_window_holds_its_cell_and_stays_within_the_image(cell):
    rows, columns = window(cell, Grid(context=5, multiple=8), H, W)
    for part, inner, side in ((rows, cell[0], H), (columns, cell[1], W)):
        assert 0 <= part.start <= inner.start < inner.stop <= part.stop <= side
        assert (part.stop - part.start) % 8 == 0 or (part.start, part.stop) == (0, side)


def test_windows_that_would_be_no_smaller_become_the_whole_image():
    every = cells(H, W, 16)
    ((place, inside),) = plan(every, Grid(cell=16), H, W)
    assert place == (slice(0, H), slice(0, W)) and inside == every
    assert plan([], Grid(cell=16), H, W) == []


def test_a_cell_without_a_labelled_pixel_is_unsure_even_at_an_open_gate():
    flat = np.zeros((2, 8, 8, C), np.float32)
    flat[:, :, 4:, 0] = 5
    found = decide_dense(cascade(2, ALWAYS), flat, Grid(cell=4))
    assert found.stage.tolist() == [1, 0, 1, 0] and np.isnan(found.confidence[[0, 2], 0]).all()


def test_a_pixel_that_is_no_number_makes_its_cell_unsure_and_no_other():
    bad = APART[:2].copy()
    bad[0, 3, 60, 1] = np.nan
    found = decide_dense(cascade(2, ALWAYS), bad, Grid(cell=16, labelled=0.0))
    assert found.stage.sum() == 1 and found.stage[3] == 1


def test_what_is_no_segmenter_is_named():
    with pytest.raises(UserError, match=r"from a for images \[1, 50, 70, 3\], got float32 \[1, 4\]"):
        routed_dense(cascade(1), [lambda images: np.zeros((1, 4), np.float32)], IMAGE, Grid())
    with pytest.raises(UserError, match="cell of the grid of cells must be at least 0, got -1"):
        Grid(cell=-1)
    with pytest.raises(UserError, match="labelled of the grid of cells must be at least 0 and below 1, got 1"):
        Grid(labelled=1)
