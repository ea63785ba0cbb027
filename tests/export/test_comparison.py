"""The paired test that decides whether a conversion loses too much."""

import numpy as np
import pytest

from dico_tf.export.comparison import AccuracyLoss, accuracy_loss, binomial_tail


def test_no_allowance_is_mcnemars_exact_test():
    assert AccuracyLoss(images=100, lost=9, won=1).p_value == pytest.approx(11 / 1024)
    assert AccuracyLoss(images=100, lost=5, won=0).p_value == pytest.approx(1 / 32)


@pytest.mark.parametrize(
    ("images", "lost", "won", "allowed", "p"),
    [
        (120, 2, 0, 1.0, 0.8**2),  # the whole of two images may be one and one of chance
        (100, 9, 0, 1.0, (0.5 + 1 / 18) ** 9),
        (100, 1, 0, 1.0, 1.0),  # no more than allowed
        (100, 3, 4, 0.0, 1.0),  # a gain
        (10_000, 300, 100, 1.0, binomial_tail(300, 400, 0.625)),
    ],
)
def test_an_allowance_moves_the_share_that_may_be_lost(images, lost, won, allowed, p):
    assert AccuracyLoss(images=images, lost=lost, won=won, allowed=allowed).p_value == pytest.approx(p)


def test_the_tail_is_a_probability_also_for_many_images():
    assert binomial_tail(0, 5000, 0.3) == pytest.approx(1)
    assert binomial_tail(2600, 5000, 0.5) == pytest.approx(0.00246, rel=0.02)


def test_five_percent_of_harmless_conversions_are_refused_at_most():
    draw = np.random.default_rng(0)
    differing = draw.binomial(200, 0.1, 2000)
    lost = draw.binomial(differing, 0.5)
    refused = [AccuracyLoss(images=200, lost=k, won=n - k).significant for n, k in zip(differing, lost, strict=True)]
    assert 0.005 < np.mean(refused) < 0.05


def test_images_are_counted_where_exactly_one_of_both_is_right():
    labels = np.arange(6) % 3
    before, after = np.eye(3)[labels], np.eye(3)[labels]
    after[[0, 3]] = np.roll(after[[0, 3]], 1, 1)
    before[5] = np.roll(before[5], 1)
    loss = accuracy_loss(before, after, labels)
    assert (loss.images, loss.lost, loss.won, loss.points) == (6, 2, 1, pytest.approx(100 / 6))
