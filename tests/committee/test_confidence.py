import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from dico_tf.committee.decision import average_cost, confidence, decide, ensemble, softmax, stages
from dico_tf.committee.sweep import sweep
from dico_tf.errors import UserError
from dico_tf.formulas.confidences import CONFIDENCES

ROW = np.log(np.array([[0.5, 0.3, 0.2]]))
APART = np.array([[[2.0, 1, 0], [0, 3, 1], [5, 1, 1]]])  # classes 0, 1, 0


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("max_prob", 0.5),
        ("prob_gap", 0.2),
        ("logit_gap", np.log(0.5 / 0.3)),
        ("entropy", 0.5 * np.log(0.5) + 0.3 * np.log(0.3) + 0.2 * np.log(0.2)),
        ("agreement", 2 / 3),
        ("energy", np.log(np.exp(APART[0]).sum(1)).mean()),
    ],
)
def test_values_by_hand(name, expected):
    assert confidence(name, ROW, APART) == pytest.approx([expected], abs=1e-6)


@pytest.mark.parametrize("name", CONFIDENCES)
def test_the_surer_row_has_more_and_a_constant_changes_nothing(name):
    sure, unsure = np.array([[6.0, 1, 0]]), np.array([[1.1, 1, 0]])
    agreed = np.stack([sure, sure], 1), np.stack([unsure, unsure[:, ::-1]], 1)
    low, high = confidence(name, unsure, agreed[1]), confidence(name, sure, agreed[0])
    assert low < high
    moved = 100 if name == "energy" else 0  # how large logits are is what an energy is about
    assert confidence(name, unsure + 100, agreed[1] + 100) == pytest.approx(low + moved, abs=1e-4)


@given(arrays.arrays(np.float32, (20, 2), elements=st.floats(-12, 12, width=32)))
def test_of_two_classes_all_rank_alike(logits):
    gap = np.abs(logits[:, 0].astype(np.float64) - logits[:, 1])
    apart = logits[:, None]
    for name in set(CONFIDENCES) - {"agreement", "energy"}:
        found = confidence(name, logits, apart).astype(np.float64)
        order = np.argsort(gap, kind="stable")
        assert (np.diff(found[order]) >= -1e-6).all(), name


@pytest.mark.parametrize("name", CONFIDENCES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_no_numbers_has_none(name, bad):
    rows = np.array([[1.0, 2, 3], [1, bad, 0]])
    found = confidence(name, rows, rows[:, None])
    assert np.isfinite(found[0]) and np.isnan(found[1])


@pytest.mark.parametrize("name", [name for name in CONFIDENCES if name != "energy"])
def test_of_one_class_all_are_sure_and_their_gates_do_what_the_sweep_says(name):
    one = np.arange(6, dtype=np.float32).reshape(3, 2, 1)
    committee = ensemble("a", "b", confidence=name)
    _, found = stages(committee, one)
    assert np.isfinite(found).all()
    every = sweep(found, np.ones((3, 2), int), 5)
    for setting in range(every.settings):
        stage = decide(dataclasses.replace(committee, gates=every.gates(setting)), one).stage
        assert every.average([1.0, 2.0]).flat[setting] == average_cost([1.0, 2.0], stage)
    assert every.settings == 2 and every.average([1.0, 2.0]).tolist() == [1, 3]


def test_half_precision_does_not_call_a_lead_of_eight_a_certainty():
    half = np.array([[8.0, 0.0]], np.float16)
    assert softmax(half).dtype == np.float32
    many = np.random.default_rng(0).normal(0, 10, (50, 1000))
    assert softmax(many).sum(-1) == pytest.approx(np.ones(50), abs=1e-5)
    assert confidence("max_prob", half, half[:, None]) < 1.0


def test_an_unknown_one_is_named():
    with pytest.raises(UserError, match="did you mean entropy"):
        confidence("entrophy", ROW, APART)
