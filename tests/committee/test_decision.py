"""The definition: which members are asked, and what the answer is."""

import dataclasses
import itertools

import numpy as np
import pytest

from dico_tf.committee.decision import (
    ALWAYS,
    NEVER,
    Committee,
    are_right,
    average_cost,
    decide,
    ensemble,
    reach,
    stages,
    worst_cost,
)
from dico_tf.errors import UserError
from dico_tf.evaluation.averaging import combine, log_softmax
from dico_tf.formulas.averages import AVERAGES
from dico_tf.formulas.confidences import CONFIDENCES
from tests.committee.generated import pool

POOL = pool(members=4)
NAMES = POOL.members


def cascade(n, *gates, **how):
    return Committee(members=NAMES[:n], gates=gates, **how)


def test_an_open_gate_gives_the_first_members_answer_bit_for_bit():
    found = decide(cascade(3, 0.0, 0.0), POOL.stacked(NAMES[:3]))
    assert (found.logits == POOL.logits["m0"].astype(np.float64)).all()
    assert (found.stage == 0).all() and average_cost([10, 30, 90], found.stage) == 10


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("n", [2, 3, 4])
def test_never_gives_the_ensemble(n, average):
    logits = POOL.stacked(NAMES[:n])
    found = decide(ensemble(*NAMES[:n], average=average), logits)
    assert found.logits == pytest.approx(combine(logits, average), abs=1e-6)
    assert (found.stage == n - 1).all()
    assert average_cost([10, 30, 90, 270][:n], found.stage) == sum([10, 30, 90, 270][:n])


def test_a_gate_of_one_is_not_never():
    """float32 rounds the softmax of a long lead to exactly 1."""
    saturated = np.zeros((1, 2, 10), np.float32)
    saturated[:, 0, 3] = 40
    assert decide(cascade(2, 1.0), saturated).stage == [0]
    assert decide(cascade(2, NEVER), saturated).stage == [1]


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("n", [2, 3, 4])
def test_the_answer_is_the_mean_of_exactly_those_that_were_asked(n, average):
    logits = POOL.stacked(NAMES[:n])
    found = decide(cascade(n, *(0.9, 0.8, 0.7)[: n - 1], average=average), logits)
    assert len(set(found.stage.tolist())) == n
    for row, stage in enumerate(found.stage):
        assert found.logits[row] == pytest.approx(
            combine(logits[row : row + 1, : stage + 1], average)[0], abs=1e-6
        ) or (stage == 0 and found.logits[row] == pytest.approx(log_softmax(logits[row, 0]), abs=1e-6))


@pytest.mark.parametrize("name", CONFIDENCES)
def test_a_tie_stops_and_one_step_above_does_not(name):
    logits = POOL.stacked(NAMES[:2])
    _, confidences = stages(cascade(2, NEVER, confidence=name), logits)
    tie = float(confidences[0, 0])
    above = float(np.nextafter(confidences[0, 0], np.float32(np.inf)))
    assert decide(cascade(2, tie, confidence=name), logits).stage[0] == 0
    assert decide(cascade(2, above, confidence=name), logits).stage[0] == 1


@pytest.mark.parametrize("name", CONFIDENCES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("member", [0, 1])
def test_what_is_no_number_goes_to_the_last_member_and_is_flagged_but_not_lost(name, bad, member):
    logits = POOL.stacked(NAMES[:3]).copy()
    logits[7, member, 2] = bad
    gates = (NEVER, ALWAYS) if member else (ALWAYS, ALWAYS)
    found = decide(cascade(3, *gates, confidence=name), logits)
    assert len(found.stage) == len(logits) and found.stage[7] == 2 and found.lost[7]
    assert not found.lost[np.arange(len(logits)) != 7].any()
    assert (np.delete(found.stage, 7) == member).all()


def test_neither_the_batch_nor_its_order_matters():
    committee, logits = cascade(4, 0.9, 0.9, 0.9), POOL.stacked(NAMES)
    whole = decide(committee, logits)
    order = np.random.default_rng(1).permutation(len(logits))
    moved = decide(committee, logits[order])
    assert (moved.logits == whole.logits[order]).all() and (moved.stage == whole.stage[order]).all()
    one_by_one = [decide(committee, logits[n : n + 1]) for n in range(50)]
    assert np.concatenate([d.stage for d in one_by_one]).tolist() == whole.stage[:50].tolist()
    assert (np.concatenate([d.logits for d in one_by_one]) == whole.logits[:50]).all()
    assert len(decide(committee, logits[:0]).stage) == 0


def test_the_cost_is_what_the_images_took():
    committee, logits = cascade(4, 0.9, 0.9, 0.9), POOL.stacked(NAMES)
    stage, price = decide(committee, logits).stage, [10.0, 30.0, 90.0, 270.0]
    by_hand = np.mean([sum(price[: s + 1]) for s in stage])
    assert average_cost(price, stage) == pytest.approx(by_hand, abs=1e-9)
    share = reach(stage, 4)
    assert share[0] == 1 and (np.diff(share) <= 0).all()
    exits = np.bincount(stage, minlength=4) / len(stage)
    assert exits.sum() == pytest.approx(1) and share == pytest.approx(1 - np.cumsum(exits) + exits)


def test_closing_any_gate_never_makes_it_cheaper():
    logits, price = POOL.stacked(NAMES[:3]), [10.0, 30.0, 90.0]
    _, confidences = stages(ensemble(*NAMES[:3]), logits)
    grid = [[*np.quantile(confidences[:, k], np.linspace(0, 1, 12)).tolist(), NEVER] for k in range(2)]
    cost = np.array([[average_cost(price, decide(cascade(3, a, b), logits).stage) for b in grid[1]] for a in grid[0]])
    assert (np.diff(cost, axis=0) >= 0).all() and (np.diff(cost, axis=1) >= 0).all()
    assert cost.min() >= 10 and cost.max() <= 130


def test_only_members_that_can_be_reached_count_as_the_worst_case():
    assert worst_cost([1, 2, 4], (0.5, 0.5)) == 7
    assert worst_cost([1, 2, 4], (0.5, ALWAYS)) == 3
    assert worst_cost([1], ()) == 1


def test_weights_and_temperatures_are_of_those_that_were_asked():
    logits = POOL.stacked(NAMES[:3])
    committee = ensemble(*NAMES[:3], weights=(1.0, 2.0, 5.0), temperatures=(2.0, 1.0, 0.5))
    scaled = logits / np.array([2.0, 1.0, 0.5])[:, None]
    answers, _ = stages(committee, logits)
    for k in range(3):
        share = np.array([1.0, 2.0, 5.0])[: k + 1]
        assert answers[:, k] == pytest.approx(np.einsum("k,nkc->nc", share / share.sum(), scaled[:, : k + 1]), abs=1e-6)


def test_halves_decide_as_floats_do_but_near_the_gate():
    logits = POOL.stacked(NAMES[:2])
    for dtype in (np.float16, np.float32):
        one = decide(cascade(2, 0.9), logits.astype(dtype))
        sure = np.abs(one.confidence[:, 0] - 0.9) > 1e-2
        assert (one.stage[sure] == decide(cascade(2, 0.9), logits).stage[sure]).all()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"members": ()}, "at least one member"),
        ({"members": ("a", "a"), "gates": (0.5,)}, "each member only once, got a 2 times"),
        ({"members": ("a", "b")}, "expected 1 gates, .* got 0"),
        ({"members": ("a", "b"), "gates": (float("nan"),)}, "infinity"),
        ({"members": ("a", "b"), "gates": (0.5,), "confidence": "sure"}, "unknown confidence"),
        ({"members": ("a", "b"), "gates": (0.5,), "average": "mean"}, "unknown average"),
        ({"members": ("a", "b"), "gates": (0.5,), "weights": (1.0,)}, "expected 2 weights, .* got 1"),
        ({"members": ("a", "b"), "gates": (0.5,), "temperatures": (1.0, 0.0)}, "expected positive, finite temp.* 0.0"),
        ({"members": ("a", "b"), "gates": (0.5,), "average": "max", "weights": (1.0, 1.0)}, "takes no weights"),
    ],
)
def test_what_is_no_committee_is_refused(how, message):
    with pytest.raises(UserError, match=message):
        Committee(**how)


def test_logits_of_other_members_are_refused():
    with pytest.raises(UserError, match=r"expected logits as floats \[N, 2, C\]"):
        decide(cascade(2, 0.5), POOL.stacked(NAMES[:3]))


def test_kinds_have_names():
    assert [cascade(1).kind, ensemble("a", "b").kind, cascade(2, 0.5).kind] == ["single", "ensemble", "cascade"]
    assert [dataclasses.replace(cascade(2, gate)).kind for gate in (ALWAYS, 1.0)] == ["cascade"] * 2
    assert len(list(itertools.chain(ensemble(*NAMES).gates))) == 3


def test_an_answer_that_is_no_number_is_never_right():
    """argmax would take the first NaN for the class."""
    logits = np.array([[3.0, 1, 2], [np.nan, 1, 2], [np.inf, 1, 2], [0, -np.inf, 2], [0, 1, 2]])
    assert are_right(logits, np.array([0, 0, 0, 2, 0])).tolist() == [True, False, False, False, False]
    found = decide(ensemble("a", "b"), np.stack([logits, logits], 1))
    assert found.right(np.zeros(5, int)).tolist() == [True, False, False, False, False]
