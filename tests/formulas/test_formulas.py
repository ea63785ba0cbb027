"""Each formula gives the same in numpy and in a TensorFlow graph, for ordinary logits, ties, NaN and infinity."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from dico_tf.committee.decision import NEVER, Committee, confidence, stages
from dico_tf.formulas.averages import AVERAGES
from dico_tf.formulas.confidences import CONFIDENCES
from dico_tf.formulas.softmax import log_softmax, log_sum_exp, softmax

BAD = (np.nan, np.inf, -np.inf)


def logits(kind: str, members: int, dtype=np.float64) -> np.ndarray:
    """[40, members, 5]"""
    random = np.random.default_rng(members)
    values = random.normal(0, 4, (40, members, 5)).astype(dtype)
    if kind == "ties":
        return values.round()
    if kind == "huge":
        return values * dtype(1e3)
    if kind == "bad":
        rows = np.arange(0, 40, 2)
        places = random.integers(members, size=20), random.integers(5, size=20)
        values[(rows, *places)] = random.choice(BAD, 20)
    return values


def in_a_graph(formula, *arrays) -> np.ndarray:
    """Call formula(keras.ops, *arrays) within a graph whose first axis is free."""
    specs = [tf.TensorSpec((None, *array.shape[1:]), array.dtype) for array in arrays]
    return tf.function(lambda *tensors: formula(keras.ops, *tensors), input_signature=specs)(*arrays).numpy()


def agree(one: np.ndarray, other: np.ndarray, rtol: float) -> None:
    """Finite numbers agree to `rtol` of the largest; the others are in the same places."""
    lost = ~np.isfinite(one)
    assert (lost == ~np.isfinite(other)).all()
    np.testing.assert_allclose(one[~lost], other[~lost], rtol=rtol, atol=rtol * np.abs(one[~lost]).max())


@pytest.mark.parametrize("kind", ["ordinary", "ties", "huge", "bad"])
@pytest.mark.parametrize("members", [1, 2, 3, 4])
@pytest.mark.parametrize("name", AVERAGES)
def test_an_average_is_the_same_in_numpy_and_in_a_graph(name, members, kind):
    rule, z = AVERAGES[name], logits(kind, members)
    with np.errstate(invalid="ignore"):
        expected = rule.combine(np, rule.values(np, z))
    agree(expected, in_a_graph(lambda ops, z: rule.combine(ops, rule.values(ops, z)), z), 1e-12)
    single = z.astype(np.float32)
    agree(expected, in_a_graph(lambda ops, z: rule.combine(ops, rule.values(ops, z)), single), 1e-5)


@pytest.mark.parametrize("name", [name for name in AVERAGES if AVERAGES[name].add])
@pytest.mark.parametrize("kind", ["ordinary", "ties", "huge"])
def test_members_added_one_by_one_give_the_average_of_all(name, kind):
    rule, z = AVERAGES[name], logits(kind, 4)
    values = rule.values(np, z)
    answer = values[:, 0]
    for k in range(1, 4):
        answer = rule.add(np, answer, values[:, k], 1 / (k + 1))
        agree(rule.combine(np, values[:, : k + 1]), answer, 1e-12)
        before = rule.combine(np, values[:, :k])
        agree(answer, in_a_graph(lambda ops, a, v, k=k: rule.add(ops, a, v, 1 / (k + 1)), before, values[:, k]), 1e-12)


@pytest.mark.parametrize("name", AVERAGES)
def test_an_average_works_over_pixels_too(name):
    rule, z = AVERAGES[name], logits("ordinary", 3)
    pixels = np.moveaxis(z.reshape(2, 4, 5, 3, 5), 3, 1)  # [2, 3, 4, 5, 5]
    combined = rule.combine(np, rule.values(np, pixels))
    agree(rule.combine(np, rule.values(np, z)), combined.reshape(40, 5), 1e-12)


@pytest.mark.parametrize("name", AVERAGES)
def test_a_member_that_says_nan_makes_the_answer_nan(name):
    z = logits("ordinary", 3, np.float32)
    z[4, 1, 2] = np.nan
    committee = Committee(members=("a", "b", "c"), gates=(NEVER, NEVER), average=name)
    answers, confidences = stages(committee, z)
    assert np.isnan(answers[4, 1:, 2]).all() and np.isnan(confidences[4, 1:]).all()
    assert np.isfinite(np.delete(answers, 4, 0)).all()


@pytest.mark.parametrize("kind", ["ordinary", "ties", "huge", "bad"])
@pytest.mark.parametrize("members", [1, 2, 3])
@pytest.mark.parametrize("name", CONFIDENCES)
def test_a_confidence_is_the_same_in_numpy_and_in_a_graph(name, members, kind):
    z = logits(kind, members, np.float32)
    with np.errstate(invalid="ignore"):
        answer = z.mean(1)
    expected = confidence(name, answer, z)
    found = in_a_graph(CONFIDENCES[name].formula, answer, z)
    finite = np.isfinite(answer).all(-1)
    assert (np.isfinite(expected) == finite).all() and expected.shape == found.shape == (40,)
    np.testing.assert_allclose(found[finite], expected[finite], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("entry", [*AVERAGES.values(), *CONFIDENCES.values()], ids=lambda entry: entry.help)
def test_every_entry_says_what_it_is(entry):
    assert entry.help and entry.help[0].islower() and not entry.help.endswith(".")


@pytest.mark.parametrize("formula", [softmax, log_softmax, log_sum_exp])
@pytest.mark.parametrize("kind", ["ordinary", "ties", "huge"])
def test_a_softmax_is_the_same_in_numpy_and_in_a_graph(formula, kind):
    z = logits(kind, 1)[:, 0]
    agree(formula(np, z), in_a_graph(formula, z), 1e-12)


def test_the_median_is_not_moved_by_one_member_that_is_wrong_by_far():
    z = np.array([[[1.0, 2.0], [1.5, 2.5], [1e6, -1e6]]])
    assert AVERAGES["median"].combine(np, z).tolist() == [[1.5, 2.0]]


def test_the_energy_is_that_of_the_members_whatever_their_average():
    z = np.log(np.array([[[1.0, 3.0], [8.0, 8.0]]], np.float32))
    assert confidence("energy", np.zeros((1, 2)), z) == pytest.approx((np.log(4) + np.log(16)) / 2)
