import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from dico_tf.data.epoch_order import plan
from dico_tf.data.pipeline import evaluation_batches, training_batches
from dico_tf.data.source import Split


def _split(size=100):
    images = np.random.default_rng(0).integers(0, 256, (size, 6, 6, 3), np.uint8)
    return Split(images=images, labels=np.arange(size) % 7, ids=[str(n) for n in range(size)])


def _check(split, batch):
    rows = batch["index"]
    assert np.array_equal(batch["image"], split.images[rows])
    assert np.array_equal(batch["label"], split.labels[rows])
    assert (batch["image"].dtype, batch["label"].dtype, rows.dtype) == (np.uint8, np.int64, np.int64)


@pytest.mark.parametrize(("replicas", "branches"), [(1, None), (2, None), (1, 3), (2, 3)])
def test_each_replica_of_each_step_is_served_in_turn_with_what_the_plan_says(replicas, branches):
    split = _split()
    indices = plan(100, 16, 1, 2, replicas=replicas, branches=branches)
    batches = list(training_batches(split, indices).as_numpy_iterator())
    assert len(batches) == 6 * replicas
    for batch, rows in zip(batches, indices.reshape(-1, *indices.shape[2:]), strict=True):
        assert np.array_equal(batch["index"], rows)
        _check(split, batch)


@pytest.mark.parametrize("branches", [None, 3])
def test_shapes_are_known_before_the_first_batch(branches):
    spec = training_batches(_split(), plan(100, 16, 0, 0, branches=branches)).element_spec
    rows = (16,) if branches is None else (16, branches)
    assert spec["image"].shape == (*rows, 6, 6, 3)
    assert spec["label"].shape == spec["index"].shape == rows


def test_resuming_at_a_step_gives_the_batches_that_were_left():
    split = _split()
    whole = [b["index"] for b in training_batches(split, plan(100, 16, 0, 3)).as_numpy_iterator()]
    for first in (0, 2, 5, 6):
        rest = training_batches(split, plan(100, 16, 0, 3, first_step=first)).as_numpy_iterator()
        assert np.array_equal([b["index"] for b in rest], whole[first:])


def test_evaluation_passes_every_image_once_in_the_order_stored():
    split = _split()
    batches = list(evaluation_batches(split, 32).as_numpy_iterator())
    assert [len(batch["label"]) for batch in batches] == [32, 32, 32, 4]
    assert np.concatenate([batch["index"] for batch in batches]).tolist() == list(range(100))
    for batch in batches:
        _check(split, batch)


def test_pictures_in_files_are_decoded_in_the_order_of_the_plan(picture, lazy_images):
    paths = [picture(f"{n}.png", size=(8, 8), colour=(n, 0, 255)) for n in range(20)]
    split = Split(lazy_images=lazy_images(paths, 8), labels=range(20), ids=range(20))
    for batch in training_batches(split, plan(20, 8, 0, 0, branches=2)).as_numpy_iterator():
        assert batch["image"].shape == (8, 2, 8, 8, 3)
        assert np.array_equal(batch["image"][..., 0, 0, 0], batch["index"])
        assert np.array_equal(batch["label"], batch["index"])


def test_repeats_are_the_same_image_with_a_number_and_a_window_of_their_own(picture, lazy_images):
    paths = [picture(f"{n}.png", size=(8, 8), colour=(n, 0, 255)) for n in range(20)]
    inside = Split(images=_split(20).images, labels=range(20), ids=range(20))
    outside = Split(lazy_images=lazy_images(paths, 8), labels=range(20), ids=range(20))
    calls = []

    def windows(index, sizes):
        calls.append(index)
        return tf.zeros((8, 1, 4)) + tf.cast(index, tf.float32)[:, None, None] * [0.0, 0.0, 0.01, 0.01] + [0, 0, 1, 1]

    indices = plan(20, 8, 0, 0, repeats=3)
    for split in (inside, outside):
        for batch, rows in zip(training_batches(split, indices, windows).as_numpy_iterator(), indices, strict=True):
            assert np.array_equal(batch["index"], rows[0]) and len(set(batch["index"])) == 8
            assert np.array_equal(batch["label"], rows[0] % 20)
            if split is outside:
                assert np.array_equal(batch["image"][:, 0, 0, 0, 0], rows[0] % 20)
                assert len({tuple(window) for window in batch["window"][:, 0]}) == 8
            else:
                assert np.array_equal(batch["image"], split.images[rows[0] % 20])
    assert len(calls) == 1


def test_the_images_are_not_written_into_the_graph():
    split = _split(20_000)  # 2 MB
    made = training_batches(split, plan(20_000, 100, 0, 0))
    assert len(made._as_serialized_graph().numpy()) < 20_000


@pytest.mark.slow
def test_two_replicas_get_the_two_halves_of_every_step():
    code = """
import numpy as np, tensorflow as tf
from dico_tf.data.epoch_order import plan
from dico_tf.data.pipeline import training_batches
from dico_tf.data.source import Split

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
split = Split(images=np.zeros((50, 4, 4, 3), np.uint8), labels=np.arange(50), ids=range(50))
rows = plan(50, 8, 0, 0, replicas=2)
served = strategy.distribute_datasets_from_function(lambda _: training_batches(split, rows))
result = [[v.numpy() for v in strategy.experimental_local_results(batch["index"])] for batch in served]
raise SystemExit(0 if np.array_equal(result, rows) else f"{result} is not {rows}")
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
