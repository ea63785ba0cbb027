import copy
import pickle
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from dico_tf.views import augmentation_chains as chains
from dico_tf.views import operations, policies
from dico_tf.views.counter_rng import CounterRng
from dico_tf.views.image_views import ImageViews
from dico_tf.views.pieces.trivial_augment import WIDE, TrivialAugment

FILL = (125.0, 60.0, 200.0)
B = 64
IMAGES = tf.constant(np.random.default_rng(0).integers(0, 256, (B, 16, 16, 3)), tf.uint8)
INDEX = tf.range(B, dtype=tf.int64) + 10
HEAVY = "crop+flip+randaugment+autoaugment_cifar+autoaugment_imagenet+erase+cutout"
NAMES = [name for name in policies.PIECES if name != "scale"]  # of images without masks


def view_of(policy, images=IMAGES, index=INDEX, epoch=0, branch=0, seed=1):
    return ImageViews([policy], 2, seed, FILL).view(images, index, epoch, branch).numpy()


def changed(policy, **others):
    """Share of images that differ from the first draw."""
    return (np.abs(view_of(policy) - view_of(policy, **others)).max((1, 2, 3)) > 1e-2).mean()


@pytest.mark.parametrize("policy", NAMES)
def test_view_is_float32_in_range_and_of_the_same_shape(policy):
    for images in (IMAGES, tf.cast(IMAGES, tf.float32), IMAGES[:1], IMAGES[:, :, :10]):
        view = view_of(policy, images, INDEX[: len(images)])
        assert view.dtype == np.float32 and view.shape == images.shape
        assert np.isfinite(view).all() and view.min() >= -1e-3 and view.max() <= 255 + 1e-3


@pytest.mark.parametrize("policy", [name for name in NAMES if name != "none"])
def test_view_depends_on_seed_epoch_index_and_branch_alone(policy):
    assert changed(policy) == 0
    for others in ({"epoch": 1}, {"seed": 2}, {"branch": 1}, {"index": INDEX + 1}, {"index": INDEX + 2**32}):
        assert changed(policy, **others) > 0.3


def test_an_image_is_seen_the_same_in_any_batch_and_order():
    order = np.random.default_rng(1).permutation(B)[:20]
    whole = view_of(HEAVY)
    part = view_of(HEAVY, tf.gather(IMAGES, order), tf.gather(INDEX, order))
    np.testing.assert_allclose(part, whole[order], atol=2e-2)


def test_none_changes_nothing():
    np.testing.assert_array_equal(view_of("none"), IMAGES)


def test_two_equal_pieces_draw_apart():
    assert (np.abs(view_of("crop+crop") - view_of("crop")).max((1, 2, 3)) > 0).mean() > 0.5


def test_crop_is_a_window_of_the_picture_with_a_black_border():
    padded = np.pad(IMAGES, ((0, 0), (2, 2), (2, 2), (0, 0)))
    places = set()
    for image, view in zip(padded, view_of("crop:2"), strict=True):
        result = [(y, x) for y in range(5) for x in range(5) if np.array_equal(image[y : y + 16, x : x + 16], view)]
        assert len(result) == 1
        places.add(result[0])
    assert len(places) > 15
    np.testing.assert_array_equal(view_of("crop:0"), IMAGES)


def test_flip_mirrors_half_of_the_images():
    view, images = view_of("flip"), IMAGES.numpy()
    mirrored = (view == images[:, :, ::-1]).all((1, 2, 3))
    assert (mirrored | (view == images).all((1, 2, 3))).all()
    assert 0.25 < mirrored.mean() < 0.75


def test_resized_crop_of_the_whole_area_keeps_a_ramp_a_ramp():
    ramp = tf.tile(tf.range(16.0)[None, None, :, None] * 10, [B, 16, 1, 3])
    steps = np.diff(view_of("resized_crop:0.25", ramp)[:, 8, 2:-2, 0], axis=1)  # [B, 11] levels from pixel to pixel
    assert np.ptp(steps[:, 1:-1], axis=1).max() < 10
    assert 10 * np.sqrt(0.25 * 3 / 4) - 1e-2 < np.median(steps, axis=1).min() and steps.max() < 10 + 1e-2


def covered(policy):
    view = view_of(policy, tf.zeros([2000, 32, 32, 3]), tf.range(2000, dtype=tf.int64))
    mask = (view == np.float32(FILL)).all(-1)
    assert (mask == (view != 0).any(-1)).all()
    return mask


def test_erase_fills_a_square_of_the_drawn_area_in_half_of_the_images():
    mask = covered("erase")
    done = mask.any((1, 2))
    assert abs(done.mean() - 0.5) < 0.05
    rows, columns = mask.any(2).sum(1)[done], mask.any(1).sum(1)[done]
    assert (mask.sum((1, 2))[done] == rows * columns).all()
    assert set(rows) | set(columns) == {11, 12, 13, 14} and abs(rows - columns).max() <= 1
    assert mask[:, 0].any() and mask[:, -1].any() and mask[:, :, 0].any() and mask[:, :, -1].any()
    assert covered("erase:p=1").any((1, 2)).all()


def test_erase_with_a_wide_aspect_makes_oblongs():
    mask = covered("erase:0.05:0.12:min_aspect=0.5:max_aspect=1.5:p=1")
    ratio = mask.any(2).sum(1) / mask.any(1).sum(1)
    assert ratio.min() < 0.6 and 1.4 < ratio.max() < 1.7
    assert mask.mean((1, 2)).min() > 0.04 and mask.mean((1, 2)).max() < 0.135


def test_cutout_covers_a_square_cut_off_at_the_edges():
    mask = covered("cutout")
    assert mask.sum((1, 2)).max() == 256 and mask.sum((1, 2)).min() >= 64
    centres = mask.any(2).sum(1)
    assert (centres == 16).mean() == pytest.approx(17 / 32, abs=0.05)
    assert covered("cutout:4").sum((1, 2)).max() == 16


def test_randaugment_draws_every_operation_as_often_and_does_half_of_them(monkeypatch):
    calls = []
    monkeypatch.setattr(chains.operations, "apply", lambda x, op, value, fill: calls.append((op, value)) or x)
    chains.rand_augment(IMAGES, 6.0, CounterRng(1, 0, tf.range(30_000)), FILL)
    numbers = np.concatenate([op for op, _ in calls])
    counts = np.bincount(numbers, minlength=len(chains.operations.NAMES)) / numbers.size
    assert counts[0] == pytest.approx(0.5, abs=0.01)
    np.testing.assert_allclose(counts[1:], 1 / 30, atol=0.005)
    degrees = np.concatenate([value for _, value in calls])[numbers == chains.operations.NAMES.index("rotate")]
    assert abs(degrees).mean() == pytest.approx(18, abs=0.2) and abs(degrees).std() == pytest.approx(1.5, abs=0.15)
    assert (degrees < 0).mean() == pytest.approx(0.5, abs=0.06)


def test_randaugment_levels_mean_the_published_values():
    values = {name: float(value[0]) for name, value in chains.randaugment_values(tf.constant([9.0])).items()}
    assert set(values) == set(chains.RANDAUGMENT) and len(chains.RANDAUGMENT) == 15
    want = {
        "rotate": 27,
        "posterize": 3,
        "solarize": 230,
        "solarize_add": 99,
        "colour": 1.72,
        "sharpness": 1.72,
        "shear_x": 0.27,
        "translate_y": 0.405,
    }
    assert {name: values[name] for name in want} == pytest.approx(want)


def test_trivialaugment_draws_one_operation_and_one_strength_for_each_image(monkeypatch):
    calls = []
    monkeypatch.setattr(operations, "apply", lambda x, op, value, fill: calls.append((op.numpy(), value.numpy())) or x)
    TrivialAugment().apply(IMAGES, CounterRng(1, 0, tf.range(60_000)), FILL, False)
    ((number, value),) = calls
    of = {name: value[number == operations.NAMES.index(name)] for name in WIDE}
    assert len(WIDE) == 14
    np.testing.assert_allclose([len(values) / 60_000 for values in of.values()], 1 / 14, atol=0.005)
    assert len(np.unique(of["rotate"])) == 61 and abs(of["rotate"]).max() == 135
    counts = np.unique(of["solarize"], return_counts=True)[1]
    assert len(counts) == 31 and counts.min() > 0.6 * len(of["solarize"]) / 31
    ends = {
        "brightness": (0.01, 1.99),
        "sharpness": (0.01, 1.99),
        "posterize": (2, 8),
        "solarize": (0, 255),
        "shear_y": (-0.99, 0.99),
        "translate_x": (-2, 2),
    }
    for name, expected in ends.items():  # translations in shares of the side of 16 pixels
        assert (of[name].min(), of[name].max()) == pytest.approx(expected), name
    assert set(of["posterize"]) == {2, 3, 4, 5, 6, 7, 8}


def test_autoaugment_does_each_half_of_a_pair_with_its_probability(monkeypatch):
    calls = []
    monkeypatch.setattr(chains.operations, "apply", lambda x, op, value, fill: calls.append((op, value)) or x)
    table = ((("rotate", 0.25, 9), ("colour", 1.0, 9)),)
    chains.auto_augment(IMAGES, table, CounterRng(1, 0, tf.range(20_000)))
    (first, degrees), (second, factor) = [(op.numpy(), value.numpy()) for op, value in calls]
    assert (first != 0).mean() == pytest.approx(0.25, abs=0.02)
    np.testing.assert_allclose(degrees, 30)  # never negative
    assert (second != 0).all() and set(np.round(factor, 4)) == {np.float32(0.1), np.float32(1.9)}


def test_each_branch_has_its_own_view_or_all_share_branch_0s():
    own = ImageViews([HEAVY], 3, 1, FILL)(IMAGES, INDEX, 0)
    shared = ImageViews([HEAVY], 3, 1, FILL, same=True)(IMAGES, INDEX, 0)
    assert len(own) == len(shared) == 3
    assert np.abs(own[0] - own[1]).max() > 1 and np.abs(own[1] - own[2]).max() > 1
    assert shared[0] is shared[1] is shared[2]
    np.testing.assert_array_equal(shared[0], own[0])


def test_branches_may_have_a_policy_each():
    views = ImageViews(["none", "cutout"], 2, 1, FILL)(IMAGES, INDEX, 0)
    np.testing.assert_array_equal(views[0], IMAGES)
    assert (views[1].numpy() != IMAGES.numpy()).any((1, 2, 3)).all()


def test_views_survive_copying_pickling_and_their_config():
    views = ImageViews(["flip", "crop+cutout"], 2, 5, FILL)
    saved = keras.saving.serialize_keras_object(views)
    restored = keras.saving.deserialize_keras_object(saved)
    for again in (copy.deepcopy(views), pickle.loads(pickle.dumps(views)), restored):
        assert again.get_config() == views.get_config()
        np.testing.assert_array_equal(again.view(IMAGES, INDEX, 3, 1), views.view(IMAGES, INDEX, 3, 1))


class Trained(keras.Model):
    """A model whose train_step shows what it saw: there AutoGraph is off."""

    def __init__(self):
        super().__init__()
        self.views = ImageViews([HEAVY, "resized_crop"], 2, 1, FILL)
        self.epoch = self.add_weight(shape=(), initializer="zeros", dtype="int64", trainable=False)
        self.first_view = self.add_weight(shape=(16, 16, 16, 3), initializer="zeros", dtype="float32", trainable=False)

    def call(self, x):
        return x

    def train_step(self, batch):
        first, second = self.views(batch["image"], batch["index"], self.epoch.value)
        assert first.dtype == second.dtype == tf.float32
        self.first_view.assign(first)
        return {"mean": tf.reduce_mean(second)}


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_views_work_in_a_train_step_under_fit_whatever_the_precision(precision):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        model = Trained()
        model.compile(jit_compile=False)
        data = tf.data.Dataset.from_tensors({"image": IMAGES[:16], "index": INDEX[:16]})
        mean = model.fit(data, verbose=0).history["mean"][0]
        assert mean == pytest.approx(view_of("resized_crop", IMAGES[:16], INDEX[:16], branch=1).mean(), rel=1e-4)
        np.testing.assert_allclose(model.first_view, view_of(HEAVY, IMAGES[:16], INDEX[:16]), atol=2e-2)
    finally:
        keras.config.set_dtype_policy(before)


def test_pieces_done_in_one_gather_are_the_same_as_one_after_the_other():
    views = ImageViews(["crop+flip+erase+cutout+crop:2+flip"], 1, 1, FILL)
    rng, one = CounterRng(1, 0, INDEX, 0), tf.cast(IMAGES, tf.float32)
    for number, piece in enumerate(policies.parse("crop+flip+erase+cutout+crop:2+flip")):
        one = piece.apply(one, rng.scope(f"{number} {type(piece).__name__}"), FILL, False)
    np.testing.assert_array_equal(views.view(IMAGES, INDEX, 0, 0), one)


@pytest.mark.slow
def test_two_replicas_see_and_mix_their_halves_as_one_would():
    command = [sys.executable, "-m", "tests.views.two_replicas"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
