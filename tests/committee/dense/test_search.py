"""Which members, cells and gates: against every setting taken one by one."""

import dataclasses

import numpy as np
import pytest

from dico_tf.committee.decision import Committee, ensemble
from dico_tf.committee.dense.cell_pool import CellPool
from dico_tf.committee.dense.grid import Grid
from dico_tf.committee.dense.report import interval_of_difference
from dico_tf.committee.search import Goal, Space, chosen, pareto, search
from dico_tf.errors import UserError
from dico_tf.evaluation.segmentation import confusion, miou
from tests.committee.dense.oracle import decide_dense
from tests.committee.dense.test_gates import scene

GRIDS = [Grid(labelled=0.0), Grid(cell=8, context=0, multiple=1, labelled=0.0)]
COSTS = {"b": 4.0, "a": 1.0, "c": 5.0}
SCENES = [scene() for _ in range(5)]


def said(apart):
    return {"a": apart[0], "b": apart[1], "c": 0.5 * apart[1] + 0.1 * apart[0]}


@pytest.fixture(scope="module")
def pool():
    made = CellPool(COSTS, GRIDS, 2, average="logits")
    for apart, mask in SCENES:
        made.add(said(apart), mask)
    return made


def test_every_order_begins_with_the_cheaper_and_every_grid_is_looked_at(pool):
    found = pool.curves(5)
    assert set(found) == {(order, grid) for order in (("a", "b"), ("a", "c"), ("b", "c")) for grid in GRIDS}
    assert pool.images == len(SCENES)


def test_points_are_what_their_committees_do(pool):
    for (order, grid), points in pool.curves(5).items():
        for point in points:
            counts, cost = pool.decided(point.committee, grid)
            assert (miou(counts.sum(0)), cost) == pytest.approx((point.quality, point.cost))
            one_by_one = [
                decide_dense(point.committee, np.stack([said(apart)[name] for name in order]), grid).logits.argmax(-1)
                for apart, _ in SCENES
            ]
            tables = [confusion(answer, mask, 3) for answer, (_, mask) in zip(one_by_one, SCENES, strict=True)]
            assert np.array_equal(np.stack(tables), counts)


def test_members_alone_and_all_together_are_in_the_space(pool):
    alone = pool.point(pool.template(["b"]))
    tables = [confusion(apart[1].argmax(-1), mask, 3) for apart, mask in SCENES]
    assert alone.cost == 4 and alone.quality == miou(sum(tables)) and alone.committee == Committee(members=("b",))
    both = pool.point(pool.template(("a", "b")))
    assert both.cost == 5 and both.committee == ensemble("a", "b")


def test_a_front_holds_what_nothing_beats(pool):
    points = [p for curve in pool.curves(5).values() for p in curve] + [
        pool.point(pool.template([name])) for name in COSTS
    ]
    best = search(pool, Space(percentiles=5), Goal())
    assert [p.cost for p in best] == sorted({p.cost for p in best})
    for point in points:
        assert any(p.cost <= point.cost and p.score >= point.score for p in best)
    for one in best:
        assert not any(p.cost <= one.cost and p.score > one.score for p in points)


def test_the_cheapest_that_is_good_enough_or_the_best_that_is_cheap_enough_is_chosen(pool):
    points = pareto([p for curve in pool.curves(9).values() for p in curve])
    good = points[len(points) // 2].quality
    assert chosen(points, Goal(target=good)).cost == min(p.cost for p in points if p.quality >= good)
    middle = points[len(points) // 2].cost
    goal, space = Goal(budget=middle, quality="miou"), Space(percentiles=9)
    within = search(pool, space, goal)
    assert chosen(within, goal).quality == max(p.quality for p in points if p.cost <= middle)
    with pytest.raises(UserError, match=r"keeps to --budget=0\.5: the cheapest member, a, takes 1 macs"):
        search(pool, space, Goal(budget=0.5))
    with pytest.raises(UserError, match=r"no committee within the limits reaches --miou=0\.9999"):
        chosen(within, dataclasses.replace(goal, target=0.9999))


def test_one_member_is_no_cascade():
    with pytest.raises(UserError, match="expected at least two members"):
        CellPool({"a": 1.0}, GRIDS, 2)


def test_an_interval_covers_no_difference_and_sees_a_large_one():
    draw = np.random.default_rng(0)
    right = np.stack([np.diag(draw.integers(50, 90, 3)) for _ in range(40)])
    wrong = right + 20 * (1 - np.eye(3, dtype=int))
    assert interval_of_difference(right, right) == (0.0, 0.0)
    low, high = interval_of_difference(right, wrong)
    assert 0 < low < miou(right.sum(0)) - miou(wrong.sum(0)) < high


def test_gates_stay_what_they_are_when_images_are_added_one_by_one(pool):
    again = CellPool(COSTS, GRIDS, 2, average="logits")
    for apart, mask in SCENES:
        again.add(said(apart), mask)
    one, other = (p.cells(("a", "b"), GRIDS[1]) for p in (pool, again))
    for field in dataclasses.fields(one):
        assert np.array_equal(getattr(one, field.name), getattr(other, field.name), equal_nan=True)
