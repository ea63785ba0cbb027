import math

import numpy as np
import pytest

from dico_tf.errors import UserError
from dico_tf.evaluation import metrics
from dico_tf.evaluation.averaging import log_probabilities, softmax

PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.3, 0.5, 0.2], [0.25, 0.25, 0.5], [0.6, 0.3, 0.1]])
LOGITS = np.log(PROBABILITIES) + 5  # any constant
LABELS = np.array([0, 0, 2, 1])  # answers 0, 1, 2, 0: right, wrong, right, wrong
ALL = (
    metrics.nll,
    metrics.brier,
    metrics.ece,
    metrics.confusion,
    metrics.per_class_accuracy,
    metrics.scores,
    lambda logits, labels: metrics.top_k(logits, labels, 1),
)


def random_case(seed, images=40, classes=7):
    draw = np.random.default_rng(seed)
    return draw.normal(0, 2, (images, classes)), draw.integers(0, classes, images)


def test_top_k_of_four_images_by_hand():
    assert metrics.top_k(LOGITS, LABELS, 1) == 2 / 4
    assert metrics.top_k(LOGITS, LABELS, 2) == 4 / 4  # both wrong ones have their label second


def test_top_5_with_fewer_than_5_classes_is_1():
    assert metrics.top_k(LOGITS, LABELS, 5) == 1.0


def test_top_k_with_k_equal_to_the_classes_is_1_even_when_all_logits_are_equal():
    assert metrics.top_k(np.zeros((3, 4)), [0, 1, 3], 4) == 1.0


def test_top_0_is_refused():
    with pytest.raises(UserError, match="at least 1"):
        metrics.top_k(LOGITS, LABELS, 0)


def test_equal_logits_rank_the_lower_class_first():
    logits = [[2.0, 2.0, 2.0]] * 3
    labels = [0, 1, 2]
    assert metrics.top_k(logits, labels, 1) == 1 / 3
    assert metrics.top_k(logits, labels, 2) == 2 / 3
    assert metrics.top_k(logits, labels, 3) == 3 / 3


def test_a_network_that_says_the_same_of_every_class_does_not_score_everything_right():
    assert metrics.top_k(np.zeros((10, 10)), np.arange(10), 1) == 0.1


@pytest.mark.parametrize("k", [1, 2, 5, 9])
@pytest.mark.parametrize("seed", range(5))
def test_top_k_agrees_with_a_stable_sort(k, seed):
    logits, labels = random_case(seed)
    logits = np.round(logits)  # many ties
    ranked = [sorted(range(7), key=lambda c: (-row[c], c)) for row in logits]
    hits = [label in order[:k] for label, order in zip(labels, ranked, strict=True)]
    assert metrics.top_k(logits, labels, k) == np.mean(hits)


def test_nll_of_four_images_by_hand():
    # labels had 0.7, 0.3, 0.5, 0.3: -(ln 0.7 + ln 0.3 + ln 0.5 + ln 0.3) / 4
    assert metrics.nll(LOGITS, LABELS) == pytest.approx((0.3566749 + 1.2039728 + 0.6931472 + 1.2039728) / 4, abs=1e-7)


def test_nll_of_a_network_that_knows_nothing_is_log_of_the_classes():
    assert metrics.nll(np.zeros((3, 10)), [1, 2, 3]) == pytest.approx(math.log(10), abs=1e-12)


def test_nll_is_finite_for_huge_logits():
    assert metrics.nll([[1e4, -1e4]], [0]) == 0.0
    assert metrics.nll([[1e4, -1e4]], [1]) == 2e4


def test_nll_is_finite_for_a_probability_of_zero():
    assert 700 < metrics.nll(log_probabilities([[1.0, 0.0]]), [1]) < 709


def test_brier_of_four_images_by_hand():
    by_hand = [
        0.09 + 0.04 + 0.01,  # (0.7 - 1, 0.2, 0.1)
        0.49 + 0.25 + 0.04,  # (0.3 - 1, 0.5, 0.2)
        0.0625 + 0.0625 + 0.25,  # (0.25, 0.25, 0.5 - 1)
        0.36 + 0.49 + 0.01,  # (0.6, 0.3 - 1, 0.1)
    ]
    assert metrics.brier(LOGITS, LABELS) == pytest.approx(sum(by_hand) / 4, abs=1e-12)


def test_brier_goes_from_0_for_sure_and_right_to_2_for_sure_and_wrong():
    assert metrics.brier([[1e4, -1e4]], [0]) == 0.0
    assert metrics.brier([[1e4, -1e4]], [1]) == 2.0


def test_brier_of_two_classes_counts_both():
    assert metrics.brier(np.log([[0.6, 0.4]]), [0]) == pytest.approx(0.16 + 0.16, abs=1e-12)


def test_ece_of_four_images_by_hand():
    # confidences 0.7, 0.5, 0.5, 0.6; bins of 1/15: 0.7 in (10/15, 11/15], both 0.5 in (7/15, 8/15], 0.6 in (8/15, 9/15]
    # |1 - 0.7| + |(0 + 1) - (0.5 + 0.5)| + |0 - 0.6|, over 4 images
    assert metrics.ece(LOGITS, LABELS) == pytest.approx((0.3 + 0.0 + 0.6) / 4, abs=1e-12)


def test_ece_is_0_for_sure_and_right_and_1_for_sure_and_wrong():
    assert metrics.ece([[1e4, -1e4], [-1e4, 1e4]], [0, 1]) == 0.0
    assert metrics.ece([[1e4, -1e4], [-1e4, 1e4]], [1, 0]) == 1.0


def test_a_confidence_on_an_edge_belongs_to_the_bin_on_its_left():
    # of two bins, (0, 0.5] and (0.5, 1]: 0.5 and 0.45 share one, so the miss and the hit offset each other
    logits = log_probabilities([[0.5, 0.5, 0.0], [0.45, 0.3, 0.25]])
    assert metrics.ece(logits, [1, 0], bins=2) == pytest.approx(abs((0 - 0.5) + (1 - 0.45)) / 2, abs=1e-12)
    # while 0.55 stands in the next one, where nothing offsets
    logits = log_probabilities([[0.5, 0.5, 0.0], [0.55, 0.25, 0.2]])
    assert metrics.ece(logits, [1, 0], bins=2) == pytest.approx((0.5 + 0.45) / 2, abs=1e-12)


def test_a_confidence_of_a_third_lies_in_the_fifth_of_the_fifteen_bins():
    # 1/3 = 5/15 shares (4/15, 5/15] with 0.3 of four classes: a miss and a hit offset each other; 0.36 is beyond
    assert softmax(np.zeros(3)).max() == 5 / 15
    third = [1 / 3, 1 / 3, 1 / 3, 0.0]
    logits = log_probabilities([third, [0.3, 0.25, 0.25, 0.2]])
    assert metrics.ece(logits, [1, 0]) == pytest.approx(abs((0 - 1 / 3) + (1 - 0.3)) / 2, abs=1e-12)
    logits = log_probabilities([third, [0.36, 0.24, 0.2, 0.2]])
    assert metrics.ece(logits, [1, 0]) == pytest.approx((1 / 3 + 0.64) / 2, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_ece_agrees_with_a_loop_over_bins(seed):
    logits, labels = random_case(seed, images=200)
    p = softmax(logits)
    total = 0.0
    for b in range(15):
        inside = [n for n in range(200) if b / 15 < p[n].max() <= (b + 1) / 15]
        if inside:
            accuracy = np.mean([p[n].argmax() == labels[n] for n in inside])
            confidence = np.mean([p[n].max() for n in inside])
            total += len(inside) / 200 * abs(accuracy - confidence)
    assert metrics.ece(logits, labels) == pytest.approx(total, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_nll_and_brier_agree_with_loops(seed):
    logits, labels = random_case(seed)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    nll = sum(-math.log(p[n, y]) for n, y in enumerate(labels)) / 40
    brier = sum((p[n, c] - (c == y)) ** 2 for n, y in enumerate(labels) for c in range(7)) / 40
    assert metrics.nll(logits, labels) == pytest.approx(nll, abs=1e-12)
    assert metrics.brier(logits, labels) == pytest.approx(brier, abs=1e-12)


def test_confusion_has_the_truth_in_its_rows():
    # truth 0 answered 0 and 1, truth 2 answered 2, truth 1 answered 0
    np.testing.assert_array_equal(metrics.confusion(LOGITS, LABELS), [[1, 1, 0], [1, 0, 0], [0, 0, 1]])


@pytest.mark.parametrize("seed", range(5))
def test_confusion_per_class_and_top_1_tell_one_story(seed):
    logits, labels = random_case(seed)
    counts = metrics.confusion(np.round(logits), labels)
    assert counts.sum() == 40
    assert counts.trace() / 40 == metrics.top_k(np.round(logits), labels, 1)
    expected = [counts[c, c] / counts[c].sum() for c in range(7)]
    np.testing.assert_array_equal(metrics.per_class_accuracy(np.round(logits), labels), expected)


def test_a_class_without_images_has_no_accuracy():
    assert metrics.per_class_accuracy(LOGITS[:3], LABELS[:3]) == [0.5, None, 1.0]


def test_two_classes_suffice():
    logits = np.log([[0.9, 0.1], [0.4, 0.6]])
    scores = metrics.scores(logits, [0, 0])
    assert scores["top1"] == 0.5
    assert scores["top5"] == 1.0
    assert scores["nll"] == pytest.approx(-(math.log(0.9) + math.log(0.4)) / 2)


def _answers(predictions, classes):
    """Return logits whose largest are the predicted classes."""
    return np.eye(classes)[np.asarray(predictions)]


def test_a_common_class_does_not_hide_a_rare_one():
    labels, logits = [0] * 8 + [1, 1], _answers([0] * 8 + [0, 1], 2)
    assert metrics.top_k(logits, labels, 1) == 0.9
    assert metrics.balanced_accuracy(logits, labels) == (1 + 1 / 2) / 2
    assert metrics.macro_f1(logits, labels) == pytest.approx((16 / 17 + 2 / 3) / 2)


def test_classes_without_images_count_only_where_they_are_predicted():
    labels, logits = [0, 0, 1], _answers([0, 2, 1], 4)  # class 2 is predicted and has no images, class 3 neither
    assert metrics.balanced_accuracy(logits, labels) == (1 / 2 + 1) / 2
    assert metrics.macro_f1(logits, labels) == pytest.approx((2 / 3 + 1 + 0) / 3)


def test_scores_agree_with_those_of_scikit_learn():
    from sklearn.metrics import balanced_accuracy_score, f1_score

    rng = np.random.default_rng(0)
    labels, predictions = rng.integers(0, 6, 300), rng.integers(0, 6, 300)
    logits = _answers(predictions, 6)
    assert metrics.balanced_accuracy(logits, labels) == pytest.approx(balanced_accuracy_score(labels, predictions))
    assert metrics.macro_f1(logits, labels) == pytest.approx(f1_score(labels, predictions, average="macro"))


def test_scores_carry_the_numbers_of_the_report():
    names = ["top1", "top5", "nll", "brier", "ece", "balanced_accuracy", "macro_f1"]
    assert list(metrics.scores(LOGITS, LABELS)) == names
    assert all(type(value) is float for value in metrics.scores(LOGITS, LABELS).values())


@pytest.mark.parametrize("metric", ALL)
def test_no_metric_loses_a_nan_silently(metric):
    logits = LOGITS.copy()
    logits[1, 2] = logits[3, 0] = np.nan
    with pytest.raises(UserError, match="in 2 of 4 rows, first in row 1"):
        metric(logits, LABELS)


@pytest.mark.parametrize("metric", ALL)
def test_no_metric_accepts_zero_images(metric):
    with pytest.raises(UserError, match="nothing to evaluate"):
        metric(np.zeros((0, 3)), np.zeros(0, np.int64))


@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [0, -1, 0, 0], [0, 255, 0, 0]])
def test_a_label_that_is_no_class_is_refused(labels):
    with pytest.raises(UserError, match=r"1 of 4 labels lie outside 0\.\.2"):
        metrics.nll(LOGITS, labels)


@pytest.mark.parametrize("labels", [[0, 1, 2], [0.0, 1.0, 2.0, 0.0], [[0], [1], [2], [0]]])
def test_labels_of_another_kind_are_refused(labels):
    with pytest.raises(UserError, match="one whole number for each of 4 images"):
        metrics.nll(LOGITS, labels)


def test_small_unsigned_labels_do_not_overflow_the_confusion_matrix():
    labels = np.array([199, 3], np.uint8)
    counts = metrics.confusion(np.eye(200)[[199, 3]], labels)
    assert counts[199, 199] == counts[3, 3] == 1


def test_metrics_leave_their_input_alone():
    logits, labels = LOGITS.copy(), LABELS.copy()
    metrics.scores(logits, labels)
    np.testing.assert_array_equal(logits, LOGITS)
    np.testing.assert_array_equal(labels, LABELS)
