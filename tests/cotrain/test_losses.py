"""Losses and their gradients against published values."""

import math

import numpy as np
import pytest
import tensorflow as tf

from dico_tf.cotrain.losses import (
    Agreement,
    LabelLoss,
    balanced,
    class_weights,
    combine,
    cross_entropy,
    jensen_shannon,
    kullback_leibler,
    smooth,
)
from dico_tf.errors import UserError

A = [[1, 2, 3], [0, 0, 0]]
B = [[3, 2, 1], [1, 0, 0]]
C = [[0, 1, 0], [0, 2, 0]]


def _stacked(*branches):
    return tf.constant(np.stack(branches, axis=1), tf.float32)  # [B, S, C]


@pytest.mark.parametrize(
    ("loss", "branches", "value"),
    [
        (jensen_shannon, (A, B), 0.138808),
        (jensen_shannon, (A, B, C), 0.181594),
        (kullback_leibler, (A, B), 1.271812),
        (kullback_leibler, (A, B, C), 1.720957),
    ],
)
def test_agreement_is_the_published_value(loss, branches, value):
    result = loss(_stacked(*branches))
    assert result.shape == (2,)
    assert float(tf.reduce_mean(result)) == pytest.approx(value, abs=1e-6)


def test_smoothed_cross_entropy_is_the_published_value():
    targets = smooth(tf.one_hot([2, 0], 3), 0.1)
    assert float(tf.reduce_mean(cross_entropy(tf.constant(A, tf.float32), targets))) == pytest.approx(
        0.803109, abs=1e-6
    )


@pytest.mark.parametrize("loss", [jensen_shannon, kullback_leibler])
def test_agreement_is_finite_for_huge_logits(loss):
    logits = tf.Variable([[[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0]], [[1e4, 0.0, 0.0], [1e4, 0.0, 0.0]]])
    with tf.GradientTape() as tape:
        value = loss(logits)
    assert np.isfinite(value.numpy()).all()
    assert np.isfinite(tape.gradient(value, logits).numpy()).all()


def test_jensen_shannon_lies_between_nothing_and_log_s():
    alike = _stacked(A, A)
    assert jensen_shannon(alike).numpy() == pytest.approx([0, 0], abs=1e-7)
    apart = tf.constant([[[50.0, -50.0], [-50.0, 50.0]]])
    assert jensen_shannon(apart).numpy() == pytest.approx([math.log(2)], abs=1e-6)


@pytest.mark.parametrize("loss", [jensen_shannon, kullback_leibler])
def test_agreement_is_float32_under_half_precision(loss):
    half = tf.cast(_stacked(A, B), tf.bfloat16)
    assert loss(half).dtype == tf.float32
    assert loss(half).numpy() == pytest.approx(loss(_stacked(A, B)).numpy(), abs=1e-6)


def test_kl_teaches_the_learner_and_not_its_target():
    """d/dz_i of sum_j KL(p_j || p_i) with p_j held is sum_j (p_i - p_j)."""
    logits = tf.Variable(_stacked(A, B, C))
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(kullback_leibler(logits))
    p = tf.nn.softmax(logits).numpy()
    expected = sum(p - p[:, [j]] for j in range(3)) / 2
    assert tape.gradient(value, logits).numpy() == pytest.approx(expected, abs=1e-6)


def test_jensen_shannon_pulls_both_branches_by_its_true_gradient():
    logits = tf.Variable(_stacked(A, B))
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(jensen_shannon(logits))
    gradient = tape.gradient(value, logits).numpy()
    numeric, step = np.zeros_like(gradient), 1e-2
    for at in np.ndindex(*gradient.shape):
        moved = np.zeros_like(gradient)
        moved[at] = step
        up, down = (float(tf.reduce_sum(jensen_shannon(logits + sign * moved))) for sign in (1, -1))
        numeric[at] = (up - down) / (2 * step)
    assert gradient == pytest.approx(numeric, abs=1e-4)


@pytest.mark.parametrize(
    ("epoch", "weight"), [(0, 0.005), (1, 0.0125), (20, 0.25), (39, 0.4875), (40, 0.5), (300, 0.5)]
)
def test_the_weight_grows_over_the_warmup(epoch, weight):
    assert float(Agreement("js", 0.5, 40).weight(tf.constant(epoch, tf.int64))) == pytest.approx(weight, abs=1e-7)


def test_one_branch_agrees_with_itself():
    assert Agreement("js")(_stacked(A)).numpy().tolist() == [0, 0]
    assert Agreement("none")(_stacked(A, B)).numpy().tolist() == [0, 0]


def test_the_three_averages_are_as_defined():
    logits = _stacked(A, B)
    assert combine(logits, "logits").numpy() == pytest.approx(logits.numpy().mean(1))
    assert combine(logits, "max").numpy() == pytest.approx(logits.numpy().max(1))
    probabilities = tf.nn.softmax(logits).numpy().mean(1)
    assert np.exp(combine(logits, "probs").numpy()) == pytest.approx(probabilities, abs=1e-6)


def test_class_weights_multiply_the_terms_of_their_classes():
    logits, weights = tf.constant([[2.0, -1.0, 0.5]]), (0.5, 2.0, 3.0)
    log_p = tf.nn.log_softmax(logits).numpy()
    mixed = np.array([[0.25, 0.75, 0.0]], np.float32)
    expected = -(np.array(weights) * mixed * log_p).sum(1)
    assert LabelLoss("softmax", 0.0, weights).loss(logits, mixed).numpy() == pytest.approx(expected, abs=1e-6)
    terms = np.logaddexp(0, logits) - logits * np.array([[1, 1, 0]])
    binary = LabelLoss("binary", 0.0, weights)
    assert binary.loss(logits, binary.goal(mixed)).numpy() == pytest.approx((weights * terms.numpy()).mean(1), abs=1e-6)


def test_balanced_weights_give_every_class_the_same_share():
    assert balanced([90, 10]) == pytest.approx((100 / 180, 100 / 20))
    assert balanced([3, 0]) == (0.5, 0.0)
    counts = np.array([7, 2, 11])
    assert counts * balanced(counts.tolist()) == pytest.approx([20 / 3] * 3)
    assert class_weights(("none",)) == () and class_weights(("1", 2, "0.5")) == (1.0, 2.0, 0.5)
    with pytest.raises(UserError, match=r"which only train\.py counts"):
        class_weights(("balanced",))
