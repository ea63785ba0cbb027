import subprocess
import sys

import numpy as np
import pytest

from dico_tf.data.epoch_order import order, plan, shuffled
from dico_tf.errors import UserError


@pytest.mark.parametrize("size", [1, 2, 1000, 50_000])
def test_an_epoch_passes_every_image_once(size):
    assert np.array_equal(np.sort(order(size, seed=3, epoch=7)), np.arange(size))


def test_an_order_is_the_same_on_every_machine():
    assert order(8, seed=0, epoch=0).tolist() == [2, 1, 0, 6, 5, 7, 3, 4]
    assert order(8, seed=0, epoch=0).dtype == np.int64


def test_seed_epoch_and_branch_each_change_the_order():
    orders = [order(500, 0, 0), order(500, 1, 0), order(500, 0, 1), order(500, 0, 0, 0), order(500, 0, 0, 1)]
    orders.append(shuffled(500, 0))
    for n, one in enumerate(orders):
        for other in orders[:n]:
            assert np.mean(one == other) < 0.02
            assert abs(np.corrcoef(one, other)[0, 1]) < 0.2


def test_every_image_is_as_likely_first_as_last():
    places = np.stack([np.argsort(order(20, 5, epoch)) for epoch in range(2000)])  # [epochs, images]
    counts = np.stack([np.bincount(column, minlength=20) for column in places.T])  # expected 100 each
    assert np.abs(counts - 100).max() < 50  # five standard deviations


def test_a_step_is_the_next_rows_of_the_order_and_the_last_incomplete_one_is_dropped():
    result = plan(103, 10, seed=1, epoch=2)
    assert result.shape == (10, 1, 10)
    assert np.array_equal(result.ravel(), order(103, 1, 2)[:100])


@pytest.mark.parametrize("branches", [None, 3])
@pytest.mark.parametrize(("workers", "replicas"), [(1, 4), (2, 1), (2, 3), (4, 2)])
def test_the_shares_of_all_workers_unite_to_the_batch_of_one(workers, replicas, branches):
    alone = plan(1000, 48, 5, 6, branches=branches)
    shares = [
        plan(1000, 48, 5, 6, worker=w, workers=workers, replicas=replicas, branches=branches) for w in range(workers)
    ]
    assert shares[0].shape[1:3] == (replicas, 48 // workers // replicas)
    together = np.concatenate([share.reshape(20, 48 // workers, *share.shape[3:]) for share in shares], axis=1)
    assert np.array_equal(together, alone[:, 0])


@pytest.mark.parametrize("branches", [None, 2])
def test_resuming_in_the_middle_of_an_epoch_gives_what_was_left_of_it(branches):
    whole = plan(1000, 32, 0, 4, replicas=2, branches=branches)
    for first in (0, 1, 17, 31, 40):
        assert np.array_equal(plan(1000, 32, 0, 4, first_step=first, replicas=2, branches=branches), whole[first:])


def test_each_branch_trained_alone_has_its_own_order():
    result = plan(96, 32, 9, 1, branches=3)
    assert result.shape == (3, 1, 32, 3)
    for branch in range(3):
        assert np.array_equal(result[..., branch].ravel(), order(96, 9, 1, branch))


def test_repeats_follow_one_another_and_an_epoch_keeps_its_steps():
    result = plan(103, 10, seed=1, epoch=2, repeats=3)
    assert result.shape == plan(103, 10, seed=1, epoch=2).shape
    rows = result.ravel()
    assert np.array_equal(rows % 103, np.repeat(order(103, 1, 2), 3)[:100])
    assert np.array_equal(rows // 103, np.tile(np.arange(3), 34)[:100])
    assert len(set(rows)) == 100, "by which each repeat has draws of its own"


@pytest.mark.parametrize("branches", [None, 2])
def test_repeats_of_an_image_go_to_different_replicas_of_the_same_step(branches):
    options = {"seed": 5, "epoch": 6, "branches": branches, "repeats": 3}
    alone = plan(1000, 48, **options)[:, 0]
    shares = [plan(1000, 48, worker=w, workers=2, replicas=3, **options) for w in range(2)]
    together = np.stack(shares, axis=1).reshape(20, 6, 8, *alone.shape[2:])
    assert np.array_equal(np.sort(together.reshape(20, 48, -1), axis=1), np.sort(alone.reshape(20, 48, -1), axis=1))
    for step in together.reshape(20, 6, 8, -1)[..., 0] % 1000:
        assert all(len(set(replica)) == 8 for replica in step)
    assert np.array_equal(plan(1000, 48, first_step=7, worker=1, workers=2, replicas=3, **options), shares[1][7:])


def test_a_batch_that_does_not_divide_or_fit_is_refused_with_both_numbers():
    with pytest.raises(UserError, match=r"--batch_size=100 .* 6 replicas \(2 machines with 3 each\)"):
        plan(1000, 100, 0, 0, workers=2, replicas=3)
    with pytest.raises(UserError, match=r"--batch_size=128 .* 100 training images"):
        plan(100, 128, 0, 0)


def test_the_order_of_images_needs_no_tensorflow():
    code = "import sys, dico_tf.data.source, dico_tf.data.splits; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
