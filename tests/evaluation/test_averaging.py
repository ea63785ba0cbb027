import statistics

import numpy as np
import pytest

from dico_tf.errors import UserError
from dico_tf.evaluation import averaging
from dico_tf.evaluation.averaging import combine, log_probabilities, log_softmax, log_sum_exp, softmax
from dico_tf.formulas.averages import AVERAGES

TWO_BRANCHES = np.log([[[0.8, 0.2], [0.5, 0.5]]])  # [1, 2, 2]


def random_logits(images=50, branches=3, classes=4, seed=0):
    return np.random.default_rng(seed).normal(0, 3, (images, branches, classes))


def test_the_mean_of_logits_is_the_geometric_mean_of_probabilities():
    # sqrt(0.8 * 0.5) : sqrt(0.2 * 0.5) = 2 : 1
    np.testing.assert_allclose(softmax(combine(TWO_BRANCHES, "logits")), [[2 / 3, 1 / 3]], rtol=1e-12)


def test_the_mean_of_probabilities_is_returned_as_its_log():
    np.testing.assert_allclose(combine(TWO_BRANCHES, "probs"), np.log([[0.65, 0.35]]), rtol=1e-12)


def test_the_largest_logit_of_each_class_wins():
    logits = [[[1.0, -2.0, 0.0], [0.5, 3.0, 0.0]]]
    np.testing.assert_array_equal(combine(logits, "max"), [[1.0, 3.0, 0.0]])


def test_the_averages_are_not_interchangeable():
    logits = [[[0.0, 20.0], [9.0, 0.0], [9.0, 0.0]]]  # means 6 and 6.67; two of three branches are sure of class 0
    assert combine(logits, "logits").argmax() == 1
    assert combine(logits, "probs").argmax() == 0


@pytest.mark.parametrize("average", AVERAGES)
def test_one_branch_is_its_own_ensemble(average):
    logits = random_logits(branches=1)
    np.testing.assert_allclose(log_softmax(combine(logits, average)), log_softmax(logits[:, 0]), atol=1e-12)


@pytest.mark.parametrize("average", AVERAGES)
def test_the_order_of_the_branches_does_not_matter(average):
    logits = random_logits()
    np.testing.assert_allclose(combine(logits, average), combine(logits[:, ::-1], average), atol=1e-12)


@pytest.mark.parametrize("average", AVERAGES)
def test_combining_agrees_with_a_loop_over_images_and_classes(average):
    logits = random_logits()
    for n, image in enumerate(logits):
        probabilities = [np.exp(z) / np.exp(z).sum() for z in image]
        for c in range(logits.shape[2]):
            expected = {
                "logits": sum(z[c] for z in image) / 3,
                "probs": np.log(sum(p[c] for p in probabilities) / 3),
                "max": max(z[c] for z in image),
                "median": statistics.median(z[c] for z in image),
            }
            assert combine(logits, average)[n, c] == pytest.approx(expected[average], abs=1e-12)


@pytest.mark.parametrize("average", AVERAGES)
def test_combining_in_blocks_changes_nothing(average, monkeypatch):
    logits = random_logits()
    whole = combine(logits, average)
    monkeypatch.setattr(averaging, "_BLOCK", 7)
    np.testing.assert_array_equal(combine(logits, average), whole)


@pytest.mark.parametrize("average", AVERAGES)
def test_combining_huge_logits_stays_finite(average):
    logits = [[[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0]]]
    assert np.isfinite(combine(logits, average)).all()


def test_a_class_no_branch_believes_in_has_a_finite_log_of_the_mean():
    combined = combine([[[1e4, 0.0, -1e4], [1e4, 0.0, -1e4]]], "probs")
    np.testing.assert_allclose(combined, [[0.0, -1e4, -2e4]])


def test_softmax_and_its_log_survive_huge_logits():
    np.testing.assert_array_equal(softmax([1e4, -1e4]), [1.0, 0.0])
    np.testing.assert_array_equal(log_softmax([1e4, -1e4]), [0.0, -2e4])
    assert log_sum_exp([1e4, 1e4]) == pytest.approx(1e4 + np.log(2))


def test_softmax_computes_in_float64_whatever_it_is_given():
    assert softmax(np.zeros((2, 3), np.float16)).dtype == np.float64
    assert log_softmax(np.zeros((2, 3), np.float32)).dtype == np.float64


def test_adding_a_constant_to_an_image_changes_no_probability():
    logits = random_logits()
    np.testing.assert_allclose(softmax(logits + 123.0), softmax(logits), rtol=1e-10)
    np.testing.assert_allclose(np.exp(log_softmax(logits)), softmax(logits), rtol=1e-12)


def test_log_sum_exp_works_along_any_axis():
    logits = random_logits()
    np.testing.assert_allclose(log_sum_exp(logits, axis=1), np.log(np.exp(logits).sum(1)), rtol=1e-12)


def test_probabilities_become_logits_and_come_back():
    probabilities = [[0.7, 0.3, 0.0], [0.2, 0.2, 0.6]]
    logits = log_probabilities(probabilities)
    assert np.isfinite(logits).all()
    np.testing.assert_allclose(softmax(logits), probabilities, atol=1e-15)


def test_logits_passed_as_probabilities_are_refused():
    with pytest.raises(UserError, match="a negative number or NaN in 1 of 2 rows"):
        log_probabilities([[0.5, 0.5], [2.0, -1.0]])
    with pytest.raises(UserError, match="1 of 2 rows do not add up to 1, such as one with the sum 3"):
        log_probabilities([[0.5, 0.5], [2.0, 1.0]])


def test_an_unknown_average_is_refused_with_a_suggestion():
    with pytest.raises(UserError, match="unknown average 'prob'; did you mean probs"):
        combine(TWO_BRANCHES, "prob")


def test_lost_logits_are_counted_and_their_branches_named():
    logits = random_logits(images=10)
    logits[4, 1, 2] = np.nan
    logits[4, 1, 3] = np.inf
    logits[7, 2, 0] = -np.inf
    with pytest.raises(UserError, match="branches 1, 2 in 2 of 10 rows, first in row 4"):
        combine(logits)


@pytest.mark.parametrize("shape", [(0, 2, 3), (4, 0, 3), (4, 2, 0)])
def test_nothing_to_combine_is_refused(shape):
    with pytest.raises(UserError, match="nothing to evaluate"):
        combine(np.zeros(shape))


def test_logits_without_an_axis_of_branches_are_refused():
    with pytest.raises(UserError, match=r"shape \[4, 3\], expected \[N, S, C\]"):
        combine(np.zeros((4, 3)))


def test_whole_numbers_and_half_precision_are_logits_too():
    for kind in (np.int8, np.uint8, np.float16, np.float32):
        np.testing.assert_array_equal(combine(np.array([[[100, 1], [50, 3]]], kind)), [[75.0, 2.0]])


def test_logits_that_are_text_are_refused():
    with pytest.raises(UserError, match="expected numbers"):
        combine([[["a", "b"]]])


def test_combining_leaves_its_input_alone():
    logits = random_logits().astype(np.float32)
    before = logits.copy()
    for average in AVERAGES:
        combine(logits, average)
    np.testing.assert_array_equal(logits, before)
