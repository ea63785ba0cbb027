import numpy as np
import pytest
import tensorflow as tf

from dico_tf.views.counter_rng import CounterRng
from dico_tf.views.mixing import Mixing, beta

B, C = 16, 5
VIEWS = [tf.random.stateless_uniform([B, 12, 10, 3], [1, s], maxval=255.0) for s in range(2)]
TARGETS = tf.one_hot(tf.range(B) % C, C)


def mixed(mixup, cutmix, step=3, seed=1, branch=-1, views=VIEWS):
    views, targets = Mixing(mixup, cutmix, seed)(views, TARGETS, tf.constant(step), branch)
    return [view.numpy() for view in views], targets.numpy()


@pytest.mark.parametrize("alpha", [0.05, 0.2, 0.5, 1.0, 2.0, 8.0])
def test_lambda_follows_the_beta_distribution(alpha):
    ours = beta(CounterRng(1, 0, tf.range(40_000)).uniform("beta"), alpha).numpy()
    theirs = np.random.default_rng(0).beta(alpha, alpha, 400_000).astype(np.float32)  # near 1 as coarse as ours
    variance = 1 / (4 * (2 * alpha + 1))
    kurtosis = variance**2 * (3 - 6 / (2 * alpha + 3))  # fourth central moment
    assert ours.min() >= 0 and ours.max() <= 1
    assert abs(ours.mean() - 0.5) < 4 * np.sqrt(variance / ours.size)
    assert abs(((ours - 0.5) ** 2).mean() - variance) < 4 * np.sqrt((kurtosis - variance**2) / ours.size)
    points = np.quantile(theirs, np.linspace(0.001, 0.999, 500)).astype(np.float32)
    share = np.searchsorted(np.sort(ours), points, "right") / ours.size
    want = np.searchsorted(np.sort(theirs), points, "right") / theirs.size
    assert np.abs(share - want).max() < 2.2 * np.sqrt(1 / ours.size + 1 / theirs.size)


def test_alpha_one_is_the_uniform_distribution():
    u = tf.linspace(0.001, 0.999, 101)
    np.testing.assert_allclose(beta(u, 1.0), u, atol=1e-6)


def test_mixup_mixes_images_and_targets_by_one_lambda_and_one_order():
    views, targets = mixed(0.2, 0.0)
    draws = CounterRng.of_step(1, 3, branch=-1)
    share = beta(draws.uniform("mixup"), 0.2).numpy()
    order = CounterRng.of_step(1, 3, tf.range(B), -1).permutation("order").numpy()
    for view, whole in zip(views, VIEWS, strict=True):
        np.testing.assert_allclose(view, share * whole + (1 - share) * whole.numpy()[order], atol=1e-3)
    np.testing.assert_allclose(targets, share * TARGETS + (1 - share) * TARGETS.numpy()[order], atol=1e-6)


@pytest.mark.parametrize("step", range(8))
def test_cutmix_puts_one_box_of_the_partner_and_mixes_targets_by_its_real_area(step):
    views, targets = mixed(0.0, 1.0, step)
    order = CounterRng.of_step(1, step, tf.range(B), -1).permutation("order").numpy()
    whole = VIEWS[0].numpy()
    foreign = (np.abs(views[0] - whole).max(-1) > 0).any(0)  # [H, W]
    rows, columns = np.where(foreign.any(1))[0], np.where(foreign.any(0))[0]
    if foreign.any():  # a full rectangle
        assert foreign.sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
    np.testing.assert_array_equal(views[0][:, foreign], whole[order][:, foreign])
    np.testing.assert_array_equal((np.abs(views[1] - VIEWS[1]).max(-1) > 0).any(0), foreign)
    share = 1 - foreign.mean()
    np.testing.assert_allclose(targets, share * TARGETS + (1 - share) * TARGETS.numpy()[order], atol=1e-6)


@pytest.mark.slow
def test_with_both_on_each_step_is_one_or_the_other():
    chosen = []
    for step in range(60):
        views, _ = mixed(1.0, 1.0, step)
        alone = mixed(1.0, 0.0, step)[0], mixed(0.0, 1.0, step)[0]
        fits = [np.array_equal(views[0], one[0]) for one in alone]
        assert any(fits)
        chosen.append(fits[0])
    assert 15 < sum(chosen) < 45


def test_mixing_repeats_by_seed_and_step_and_differs_between_steps_seeds_and_branches():
    same, targets = mixed(1.0, 0.0)
    again, _ = mixed(1.0, 0.0)
    np.testing.assert_array_equal(same[0], again[0])
    for other in ({"step": 4}, {"seed": 2}, {"branch": 0}):
        assert np.abs(mixed(1.0, 0.0, **other)[0][0] - same[0]).max() > 1
    assert np.abs(mixed(1.0, 0.0, branch=0)[0][0] - mixed(1.0, 0.0, branch=1)[0][0]).max() > 1
    np.testing.assert_allclose(targets.sum(1), 1, atol=1e-6)


def test_mixing_switched_off_changes_nothing():
    views, targets = Mixing(0.0, 0.0, 1)(VIEWS, TARGETS, 3)
    assert views is VIEWS and targets is TARGETS


def test_a_view_shared_by_the_branches_is_mixed_once():
    views, _ = Mixing(1.0, 0.0, 1)([VIEWS[0]] * 3, TARGETS, 3)
    assert views[0] is views[1] is views[2]


def test_mixing_survives_its_config():
    mixing = Mixing(0.2, 1.0, 7)
    assert Mixing.from_config(mixing.get_config()).get_config() == mixing.get_config()
