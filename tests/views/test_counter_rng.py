import numpy as np
import pytest
import tensorflow as tf

from dico_tf.views.counter_rng import CounterRng
from tests.views.reference import uniform as reference

INDEX = tf.range(20_000, dtype=tf.int64)


def draw(seed=1, epoch=2, index=INDEX, branch=0, stream="s", count=0):
    return CounterRng(seed, epoch, index, branch).uniform(stream, count=count).numpy()


def chi_square(u, bins=100):
    counts = np.histogram(u, bins, (0, 1))[0]
    return (((counts - u.size / bins) ** 2) / (u.size / bins)).sum()


def test_draws_equal_the_reference_written_in_plain_integers():
    index = [0, 1, 2**31, 2**32, 2**32 + 1, 2**62 + 5]
    for seed, epoch, branch, stream in ((0, 0, 0, "a"), (2**31 - 1, 299, 3, "1 Crop top")):
        want = [reference(1, seed, branch, epoch, i, stream) for i in index]
        np.testing.assert_array_equal(draw(seed, epoch, tf.constant(index, tf.int64), branch, stream), np.float32(want))
    want = [[reference(1, 5, 1, 7, i, "b", c) for c in range(3)] for i in index]
    np.testing.assert_array_equal(draw(5, 7, tf.constant(index, tf.int64), 1, "b", 3), np.float32(want))


def test_draws_never_change_between_versions():
    np.testing.assert_allclose(draw()[:4], [0.63157457, 0.60525638, 0.99397564, 0.85259509], rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    "draws",
    [
        lambda: draw(),
        lambda: draw(stream="t"),
        lambda: draw(count=3),
        lambda: np.concatenate([draw(epoch=e, index=INDEX[:50]) for e in range(200)]),
        lambda: np.concatenate([draw(branch=b, index=INDEX[:500]) for b in range(20)]),
        lambda: np.concatenate([draw(seed=s, index=INDEX[:200]) for s in range(50)]),
        lambda: draw(index=INDEX * 2**32),
        lambda: draw(index=INDEX * 4096),
    ],
    ids=["index", "stream", "component", "epoch", "branch", "seed", "high words", "strides"],
)
def test_draws_are_uniform(draws):
    u = draws()
    assert u.dtype == np.float32 and u.min() >= 0 and u.max() < 1
    assert chi_square(u) < 160  # 99 degrees of freedom: 1 in 10,000
    steps = (np.arange(u.size) + 0.5) / u.size
    assert np.abs(np.sort(u.ravel()) - steps).max() < 2.2 / np.sqrt(u.size)  # Kolmogorov and Smirnov, 1 in 10,000


@pytest.mark.parametrize(
    "other",
    [{"epoch": 3}, {"branch": 1}, {"seed": 2}, {"stream": "t"}, {"index": INDEX + 1}, {"index": INDEX + 2**32}],
    ids=str,
)
def test_draws_that_differ_in_one_thing_are_independent(other):
    a, b = draw(), draw(**other)
    assert abs(np.corrcoef(a, b)[0, 1]) < 4 / np.sqrt(a.size)
    assert chi_square((a - b) % 1) < 160
    assert (a == b).mean() < 1e-3
    cells = np.histogram2d(a, b, 10, [[0, 1], [0, 1]])[0]
    assert ((cells - a.size / 100) ** 2 / (a.size / 100)).sum() < 160


def test_components_of_a_draw_are_independent():
    u = draw(count=4)
    assert u.shape == (20_000, 4)
    assert np.abs(np.corrcoef(u.T) - np.eye(4)).max() < 4 / np.sqrt(len(u))


def test_an_image_draws_the_same_in_any_batch_and_in_a_graph():
    def in_graph(epoch, index):
        return CounterRng(1, epoch, index, 0).uniform("s")

    whole = draw()
    np.testing.assert_array_equal(whole[[7, 3, 3]], draw(index=tf.constant([7, 3, 3], tf.int64)))
    for epoch in (tf.constant(2), tf.constant(2, tf.int64)):
        np.testing.assert_array_equal(whole, tf.function(in_graph, autograph=False)(epoch, INDEX))


def test_a_step_draws_otherwise_than_an_image():
    step = CounterRng.of_step(1, 2, INDEX).uniform("s").numpy()
    assert abs(np.corrcoef(step, draw())[0, 1]) < 4 / np.sqrt(len(step))


def test_normal_draws_have_the_moments_of_the_normal_distribution():
    x = CounterRng(1, 2, INDEX).normal("n").numpy()
    np.testing.assert_allclose([x.mean(), x.var(), (x**3).mean(), (x**4).mean()], [0, 1, 0, 3], atol=0.15)
    assert abs((np.abs(x) < 1).mean() - 0.6827) < 0.015


def test_whole_numbers_stay_below_their_limit_and_are_all_as_likely():
    n = CounterRng(1, 2, INDEX).integers("n", 9).numpy()
    counts = np.bincount(n)
    assert n.min() == 0 and n.max() == 8
    assert ((counts - n.size / 9) ** 2 / (n.size / 9)).sum() < 32  # 8 degrees of freedom: 1 in 10,000


def test_a_permutation_holds_every_place_once():
    order = CounterRng.of_step(1, 2, tf.range(64)).permutation("order").numpy()
    assert sorted(order) == list(range(64)) and (order != np.arange(64)).any()
