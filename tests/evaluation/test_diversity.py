import itertools

import numpy as np
import pytest

from dico_tf.errors import UserError
from dico_tf.evaluation import averaging, diversity, metrics
from dico_tf.evaluation.averaging import combine


def answers(*branches, classes=3):
    """Logits [N, S, C] of branches that answer as told."""
    return np.eye(classes)[np.array(branches).T] * 4


def random_case(seed, images=60, branches=3, classes=5, scale=3.0):
    draw = np.random.default_rng(seed)
    return draw.normal(0, scale, (images, branches, classes)), draw.integers(0, classes, images)


def test_disagreement_of_three_branches_by_hand():
    # pairs differ in 1, 2 and 3 of 4 images
    logits = answers([0, 1, 2, 0], [0, 1, 2, 1], [1, 1, 0, 0])
    assert diversity.disagreement(logits) == pytest.approx((1 / 4 + 2 / 4 + 3 / 4) / 3)


def test_two_wrong_branches_that_differ_disagree():
    logits = answers([1, 1], [2, 1])
    assert diversity.disagreement(logits) == 0.5


@pytest.mark.parametrize("seed", range(5))
def test_disagreement_agrees_with_a_loop_over_pairs_and_images(seed):
    logits, _ = random_case(seed)
    shares = [
        np.mean([image[a].argmax() != image[b].argmax() for image in logits])
        for a, b in itertools.combinations(range(3), 2)
    ]
    assert diversity.disagreement(logits) == pytest.approx(np.mean(shares), abs=1e-12)


def test_q_statistic_by_hand():
    # truth is class 0; first right on images 0-4, second on 0-2 and 5: N11 = 3, N10 = 2, N01 = 1, N00 = 2
    logits = answers([0, 0, 0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 0, 1, 1])
    assert diversity.q_statistic(logits, np.zeros(8, int)) == pytest.approx((3 * 2 - 2 * 1) / (3 * 2 + 2 * 1))


def test_branches_that_are_right_together_have_q_1_and_apart_minus_1():
    truth = np.zeros(4, int)
    assert diversity.q_statistic(answers([0, 0, 1, 1], [0, 0, 2, 2]), truth) == 1.0
    assert diversity.q_statistic(answers([0, 0, 1, 1], [1, 1, 0, 0]), truth) == -1.0


def test_a_pair_of_perfect_branches_has_no_q():
    assert diversity.q_statistic(answers([0, 0], [0, 0]), [0, 0]) is None


def test_a_pair_without_q_is_left_out_of_the_mean():
    # the third branch is always right: only the first pair has a denominator
    logits = answers([0, 0, 1, 1], [0, 0, 2, 2], [0, 0, 0, 0])
    assert diversity.q_statistic(logits, np.zeros(4, int)) == 1.0


@pytest.mark.parametrize("seed", range(5))
def test_q_statistic_agrees_with_a_loop(seed):
    logits, labels = random_case(seed)
    right = logits.argmax(2) == labels[:, None]
    values = []
    for a, b in itertools.combinations(range(3), 2):
        n = {(i, j): 0 for i in (0, 1) for j in (0, 1)}
        for row in right:
            n[int(row[a]), int(row[b])] += 1
        same, different = n[1, 1] * n[0, 0], n[1, 0] * n[0, 1]
        values.append((same - different) / (same + different))
    assert diversity.q_statistic(logits, labels) == pytest.approx(np.mean(values), abs=1e-12)


@pytest.mark.parametrize("branches", [1, 2, 4])
@pytest.mark.parametrize("scale", [0.1, 3.0, 1e3])
def test_mean_branch_nll_minus_ambiguity_is_the_nll_of_the_mean_logits(branches, scale):
    logits, labels = random_case(7, branches=branches, scale=scale)
    mean = np.mean([metrics.nll(logits[:, s], labels) for s in range(branches)])
    ensemble = metrics.nll(combine(logits, "logits"), labels)
    assert mean - diversity.ambiguity(logits, "logits") == pytest.approx(ensemble, abs=1e-6)


@pytest.mark.parametrize("branches", [1, 2, 4])
@pytest.mark.parametrize("scale", [0.1, 3.0, 1e3])
def test_mean_branch_brier_minus_ambiguity_is_the_brier_of_the_mean_probabilities(branches, scale):
    logits, labels = random_case(8, branches=branches, scale=scale)
    mean = np.mean([metrics.brier(logits[:, s], labels) for s in range(branches)])
    ensemble = metrics.brier(combine(logits, "probs"), labels)
    assert mean - diversity.ambiguity(logits, "probs") == pytest.approx(ensemble, abs=1e-6)


def test_nll_ambiguity_by_hand():
    # log-probabilities have log sum exp 0; their mean has log(sqrt(0.8 * 0.5) + sqrt(0.2 * 0.5)) = log(0.9486833)
    logits = np.log([[[0.8, 0.2], [0.5, 0.5]]])
    assert diversity.ambiguity(logits, "logits") == pytest.approx(-np.log(0.9486833), abs=1e-7)


def test_brier_ambiguity_by_hand():
    # the mean is (0.65, 0.35): both branches lie 0.15 away in both classes
    logits = np.log([[[0.8, 0.2], [0.5, 0.5]]])
    assert diversity.ambiguity(logits, "probs") == pytest.approx(2 * 0.15**2, abs=1e-12)


def test_the_largest_logit_has_no_ambiguity():
    logits, _ = random_case(0)
    assert diversity.ambiguity(logits, "max") is None


@pytest.mark.parametrize("average", ["logits", "probs"])
def test_equal_branches_have_no_ambiguity_and_it_is_never_negative(average):
    logits, _ = random_case(3, branches=1)
    assert 0 <= diversity.ambiguity(np.repeat(logits, 3, 1), average) < 1e-12


@pytest.mark.parametrize("average", ["logits", "probs"])
def test_ambiguity_in_blocks_changes_nothing(average, monkeypatch):
    logits, _ = random_case(4)
    whole = diversity.ambiguity(logits, average)
    monkeypatch.setattr(averaging, "_BLOCK", 7)
    assert diversity.ambiguity(logits, average) == pytest.approx(whole, abs=1e-12)


def test_ambiguity_of_huge_logits_is_finite():
    assert diversity.ambiguity([[[1e4, -1e4], [-1e4, 1e4]]], "logits") == pytest.approx(1e4 - np.log(2))
    assert diversity.ambiguity([[[1e4, -1e4], [-1e4, 1e4]]], "probs") == pytest.approx(0.5)


@pytest.mark.parametrize(("average", "score"), [("logits", "nll"), ("probs", "brier")])
def test_one_branch_does_not_differ_from_itself(average, score):
    logits, labels = random_case(0, branches=1)
    assert diversity.measure(logits, labels, average) == {
        "disagreement": 0.0,
        "q_statistic": None,
        "ambiguity": 0.0,
        "ambiguity_score": score,
    }


def test_diversity_refuses_nan_bad_labels_and_unknown_averages():
    logits, labels = random_case(0)
    with pytest.raises(UserError, match="outside"):
        diversity.q_statistic(logits, labels + 5)
    with pytest.raises(UserError, match="unknown average"):
        diversity.ambiguity(logits, "mean")
    logits[3, 1] = np.nan
    for measure in (diversity.disagreement, diversity.ambiguity):
        with pytest.raises(UserError, match="branches 1 in 1 of 60 rows"):
            measure(logits)
