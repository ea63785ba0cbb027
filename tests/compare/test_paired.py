"""Intervals and p-values of a comparison: known values, coverage, and errors of many comparisons."""

import math

import numpy as np
import pytest
from scipy import stats

from dico_tf.compare.paired import holm, paired_difference
from dico_tf.compare.student_t import central_probability, quantile, two_sided_p


@pytest.mark.parametrize(
    ("freedom", "table"),
    [(1, 12.706204736), (2, 4.302652730), (3, 3.182446305), (4, 2.776445105), (9, 2.262157163), (120, 1.979930405)],
)
def test_quantiles_are_those_of_the_tables(freedom, table):
    assert quantile(0.95, freedom) == pytest.approx(table, rel=1e-9)


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 8, 29, 30, 200])
def test_probabilities_and_quantiles_are_those_of_scipy(freedom):
    for t in (0.0, 1e-3, 0.5, 1.0, 2.7, 9.0, 40.0):
        assert two_sided_p(t, freedom) == pytest.approx(2 * stats.t.sf(t, freedom), rel=1e-9, abs=1e-14)
        assert central_probability(-t, freedom) == central_probability(t, freedom)
    for central in (0.0, 0.1, 0.5, 0.9, 0.95, 0.99, 0.9999):
        assert quantile(central, freedom) == pytest.approx(stats.t.ppf((1 + central) / 2, freedom), rel=1e-8, abs=1e-15)


def test_a_wrong_number_of_degrees_or_probability_is_refused():
    with pytest.raises(ValueError, match="at least 1 degree of freedom, got 0"):
        quantile(0.95, 0)
    with pytest.raises(ValueError, match="from 0 to below 1, got 1"):
        quantile(1, 4)


def test_the_interval_is_that_of_the_formula_on_known_numbers():
    one = np.array([[1, 1, 1, 0], [1, 1, 0, 0]], bool)
    other = np.array([[0, 0, 1, 0], [0, 1, 0, 0]], bool)
    result = paired_difference(one, other)
    assert result.mean == 0.375  # of 1/2 and 1/4
    assert result.of_subsets == pytest.approx(0.03125)
    assert result.of_images == pytest.approx(np.var([1, 0.5, 0, 0], ddof=1))  # 0.2291667
    assert result.half == pytest.approx(12.706204736 * math.sqrt(0.03125 / 2 + 0.2291666667 / 4))
    assert paired_difference(other, one).mean == -result.mean
    assert paired_difference(one[:1], other[:1]).half == math.inf
    with pytest.raises(ValueError, match=r"one shape, got \(2, 4\) and \(1, 4\)"):
        paired_difference(one, other[:1])


def test_the_p_value_belongs_to_the_interval():
    random = np.random.default_rng(3)
    for shift in (0.0, 0.1, 0.3, 0.6):
        one, other = random.normal(size=(2, 4, 60)) + np.array([shift, 0.0])[:, None, None] > 0
        result = paired_difference(one, other)
        t = result.mean / (result.half / quantile(0.95, 3))
        assert result.p == pytest.approx(2 * stats.t.sf(abs(t), 3), rel=1e-6)
        assert (result.p < 0.05) == (abs(result.mean) > result.half)
    same = np.ones((3, 5), bool)
    assert (paired_difference(same, same).p, paired_difference(same, ~same).p) == (1.0, 0.0)
    assert paired_difference(same[:1], ~same[:1]).p == 1.0


def test_images_that_a_training_was_not_tested_on_are_left_out():
    one = np.array([[1, 1, 0, 0], [0, 1, 1, 0]], bool)
    other = np.array([[0, 1, 0, 0], [0, 0, 0, 0]], bool)
    tested = np.array([[1, 1, 0, 0], [0, 1, 1, 1]], bool)
    result = paired_difference(one, other, tested)
    assert result.mean == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert result.of_subsets == pytest.approx(np.var([1 / 2, 2 / 3], ddof=1))
    assert result.of_images == pytest.approx(np.var([1, 0.5, 1, 0], ddof=1))
    everything = np.ones_like(tested)
    assert paired_difference(one, other, everything) == paired_difference(one, other)


def drawn(random, arms: int, seeds: int, images: int, spread: float, gain: float = 0.0) -> np.ndarray:
    """Return right answers [arms, seeds, images]: images are easy or hard for all, seeds and arms differ by chance.

    An answer is right if a normal number of mean 0 and variance 2 + spread^2 is above 0; arms after the first gain.
    """
    hard, own = random.normal(size=images), random.normal(size=(arms, 1, images))  # arms differ on each image
    shifts = random.normal(0, spread, (arms, seeds, 1)) + np.where(np.arange(arms) > 0, gain, 0.0)[:, None, None]
    return shifts + hard + own > 0


@pytest.mark.parametrize(
    ("seeds", "images", "spread", "highest"),
    [(5, 2000, 0.5, 0.955), (3, 400, 0.3, 0.99), (5, 400, 0.1, 0.995)],
    ids=["seeds matter most", "few seeds", "images matter most"],
)
def test_the_interval_covers_a_known_difference_as_often_as_it_says(seeds, images, spread, highest):
    """It covers it more often where the images' variance counts: t with R - 1 degrees widens that part, too."""
    random, repeats, gain = np.random.default_rng(seeds), 1000, 0.5
    truth = stats.norm.cdf(gain / math.sqrt(2 + spread**2)) - 0.5
    results = [paired_difference(*drawn(random, 2, seeds, images, spread, gain)[::-1]) for _ in range(repeats)]
    share = np.mean([abs(result.mean - truth) <= result.half for result in results])
    error = 3 * math.sqrt(0.05 * 0.95 / repeats)
    assert 0.95 - error <= share <= highest + error
    assert min(result.of_subsets for result in results) > 0 < min(result.of_images for result in results)


def test_holm_adjusts_in_steps():
    assert holm([]) == [] and holm([0.03]) == [0.03]
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.6, 0.5]) == pytest.approx([1.0, 1.0])


def test_equal_arms_are_called_different_in_five_percent_of_comparisons_at_most():
    random, repeats, single, adjusted = np.random.default_rng(5), 1000, 0, 0
    for _ in range(repeats):
        right = drawn(random, 5, 5, 1000, spread=0.6)
        p_values = [paired_difference(other, right[0]).p for other in right[1:]]
        single += min(p_values) < 0.05
        adjusted += min(holm(p_values)) < 0.05
    error = 3 * math.sqrt(0.05 * 0.95 / repeats)
    assert 0.01 < adjusted / repeats <= 0.05 + error < single / repeats
