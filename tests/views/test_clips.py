"""Views of clips: one draw for all frames, a first frame and a square of each branch's own."""

import numpy as np
import pytest
import tensorflow as tf

from dico_tf.cotrain.dico import DiCo
from dico_tf.errors import UserError
from dico_tf.views.image_views import ImageViews
from dico_tf.views.mixing import Mixing
from dico_tf.views.pieces.windows import ShortSide
from dico_tf.views.policies import parse

FILL = (115.0, 115.0, 115.0)
STILL = np.random.default_rng(0).integers(0, 256, (6, 1, 16, 16, 3)).astype(np.uint8)
INDEX = np.arange(6)


@pytest.mark.parametrize(
    "policy", ["crop+flip", "resized_crop", "short_side+flip", "randaugment", "autoaugment_cifar+erase:0.1:0.3:p=1"]
)
def test_frames_of_a_clip_share_their_draws(policy):
    """Frames that are alike stay so, and each is what the image alone becomes."""
    views = ImageViews([policy], 1, 3, FILL)
    (clips,) = views(np.repeat(STILL, 4, axis=1), INDEX, 5)
    (images,) = views(STILL[:, 0], INDEX, 5)
    assert clips.shape == (6, 4, 16, 16, 3)
    for frame in range(4):
        np.testing.assert_allclose(clips[:, frame], images, atol=1e-3)
    assert np.abs(np.asarray(clips)[:, 0] - STILL[:, 0]).max() > 1


def test_branches_epochs_and_clips_differ_and_repeat():
    views = ImageViews(["short_side+flip"], 2, 3, FILL)
    clips = np.repeat(STILL, 3, axis=1)
    one, other = views(clips, INDEX, 5)
    assert np.abs(np.asarray(one) - other).max() > 1
    again, _ = views(clips[::-1].copy(), INDEX[::-1].copy(), 5)
    np.testing.assert_array_equal(again[::-1], one)
    assert np.abs(np.asarray(views(clips, INDEX, 6)[0]) - one).max() > 1


def facts(count: int, starts: int, size=(40, 30)) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(count), np.tile(np.int32([[*size, starts]]), (count, 1))


def test_each_branch_draws_a_first_frame_and_a_square_of_its_own():
    index, sizes = facts(4000, 7)
    views = ImageViews(["short_side:1.25:2+flip"], 2, 1, FILL)
    places = views.windows(index, sizes, 3).numpy()
    assert places.shape == (4000, 2, 5) and views.needs_windows
    left, top, right, bottom, first = np.moveaxis(places, -1, 0)
    np.testing.assert_allclose(right - left, bottom - top, atol=1e-4)
    assert left.min() >= 0 and top.min() >= 0 and right.max() <= 40.001 and bottom.max() <= 30.001
    short = 30 / (right - left)  # in image sizes
    np.testing.assert_allclose([short.min(), short.mean(), short.max()], [1.25, 1.625, 2], atol=0.02)
    assert set(first.ravel()) == set(range(7))
    np.testing.assert_allclose(np.bincount(first[:, 0].astype(int)) / 4000, 1 / 7, atol=0.03)
    assert abs(np.corrcoef(first[:, 0], first[:, 1])[0, 1]) < 0.06
    np.testing.assert_array_equal(views.windows(index[::-1].copy(), sizes, 3)[::-1], places)


def test_policies_without_a_square_draw_the_first_frame_only_and_none_draws_nothing():
    index, sizes = facts(200, 5)
    places = ImageViews(["crop", "none", "resized_crop"], 3, 1, FILL).windows(index, sizes, 0).numpy()
    assert not places[:, 0, :4].any() and set(places[:, 0, 4]) == set(range(5))
    assert not places[:, 1, :4].any() and set(places[:, 1, 4]) == {-1}
    assert np.all(places[:, 2, 2] > places[:, 2, 0])
    same = ImageViews(["crop"], 3, 1, FILL, same=True).windows(index, sizes, 0)
    assert same.shape == (200, 1, 5)


def test_windows_of_pictures_are_what_they_were_beside_a_short_side():
    index, sizes = facts(50, 5)
    alone = ImageViews(["resized_crop"], 2, 1, FILL).windows(index, sizes[:, :2], 0)
    beside = ImageViews(["short_side", "resized_crop"], 2, 1, FILL).windows(index, sizes[:, :2], 0)
    np.testing.assert_array_equal(beside[:, 1], alone[:, 1])
    assert beside.shape == (50, 2, 4) and np.all(beside[:, 0, 2] > beside[:, 0, 0])


def test_a_clip_that_was_cut_is_not_cut_again():
    clips = np.repeat(STILL, 2, axis=1)
    views = ImageViews(["short_side+flip", "short_side"], 2, 3, FILL)
    flipped, plain = views(np.stack([clips, clips], 1), INDEX, 5, cut=True)
    np.testing.assert_array_equal(plain, clips.astype(np.float32))
    both = {tuple(np.ravel(clip)) for clip in clips} | {tuple(np.ravel(clip[:, :, ::-1])) for clip in clips}
    assert {tuple(np.ravel(clip)) for clip in np.asarray(flipped).astype(np.uint8)} <= both


def test_mixing_takes_one_box_for_all_frames():
    clips = tf.constant(np.repeat(STILL, 3, axis=1), tf.float32)
    (mixed,), targets = Mixing(0.0, 1.0, 0)([clips], tf.one_hot(INDEX, 6), 4)
    assert mixed.shape == clips.shape and targets.shape == (6, 6)
    np.testing.assert_array_equal(mixed[:, 0], mixed[:, 2])


def test_the_short_side_is_parsed_and_checked():
    assert parse("short_side:1.2:1.4") == (ShortSide(1.2, 1.4),)
    for wrong in ("short_side:0.9", "short_side:1.5:1.2"):
        with pytest.raises(UserError, match="1 <= least <= most"):
            parse(wrong)


@pytest.mark.slow
def test_a_dico_of_clips_learns_from_arrays_and_is_saved(tmp_path):
    import keras

    model = DiCo("x3d_tiny", 1, classes=3, image_size=16, views=("crop:1",), mixup=0.2)
    model.compile(keras.optimizers.SGD(0.01))
    clips = np.random.default_rng(0).integers(0, 256, (8, 4, 16, 16, 3)).astype(np.uint8)
    history = model.fit(clips, np.arange(8) % 3, batch_size=4, epochs=1, verbose=0)
    assert np.isfinite(history.history["loss"]).all() and int(model.step) == 2
    assert model.predict(clips, verbose=0).shape == (8, 1, 3)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(clips), model(clips))
