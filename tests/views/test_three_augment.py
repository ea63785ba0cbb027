"""3-Augment, colour jitter and the simple crop against PIL, and how often each of their choices comes up."""

import math

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from dico_tf.data import image_decoding
from dico_tf.errors import UserError
from dico_tf.views import three_augment
from dico_tf.views.counter_rng import CounterRng
from dico_tf.views.image_views import ImageViews
from dico_tf.views.segmentation_views import SegmentationViews

RANDOM = np.random.default_rng(0)
FILL = (125.0, 60.0, 200.0)


def noisy(height: int = 24, width: int = 32, count: int = 1) -> np.ndarray:
    coarse = RANDOM.integers(0, 256, (count, 4, 4, 3), np.uint8)
    large = [np.asarray(Image.fromarray(c).resize((width, height), Image.Resampling.BICUBIC), int) for c in coarse]
    return np.clip(np.stack(large) + RANDOM.integers(-30, 31, (count, height, width, 3)), 0, 255).astype(np.uint8)


def view_of(policy: str, images: np.ndarray, first: int = 0) -> np.ndarray:
    return ImageViews([policy], 1, 1, FILL).view(images, tf.range(first, first + len(images)), 0, 0).numpy()


def test_grayscale_and_solarize_are_pils_to_one_level():
    picture = noisy()[0]
    images = tf.constant(picture[None], tf.float32)
    grey = np.asarray(ImageOps.grayscale(Image.fromarray(picture)), np.float32)
    assert np.abs(three_augment._grey(images).numpy()[0, :, :, 0] - grey).max() <= 0.51
    solarized = np.asarray(ImageOps.solarize(Image.fromarray(picture), 128))
    np.testing.assert_array_equal(three_augment.solarize(images)[0], solarized)
    levels = tf.constant([0.0, 100, 127, 128, 200, 255])
    assert three_augment.solarize(levels).numpy().tolist() == [0, 100, 127, 127, 55, 0]


@pytest.mark.parametrize("shape", [(24, 32), (32, 32), (5, 40)])
def test_blur_is_pils_which_rounds_after_each_of_its_six_passes(shape):
    picture, sigmas = noisy(*shape)[0], (0.1, 0.5, 1.0, 1.5, 2.0)
    images = tf.constant(np.stack([picture] * len(sigmas)), tf.float32)
    blurred = three_augment.blur(images, tf.constant(sigmas)).numpy()
    for sigma, ours in zip(sigmas, blurred, strict=True):
        pil = np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(sigma)), np.float32)
        assert np.abs(ours - pil).max() <= 3 and np.abs(ours - pil).mean() < 1


def test_blur_has_the_variance_asked_for():
    point = np.zeros((1, 41, 41, 3), np.float32)
    point[0, 20, 20] = 1.0
    spread = three_augment.blur(tf.constant(point), tf.constant([1.7])).numpy()[0, :, :, 0]
    assert spread.sum() == pytest.approx(1, abs=1e-5)
    assert (spread.sum(0) * (np.arange(41) - 20) ** 2).sum() == pytest.approx(1.7**2, rel=1e-4)


def test_exactly_one_of_the_three_is_done_to_every_image_each_as_often():
    count = 6000
    image = noisy(8, 8)[0]
    views = view_of("three_augment", np.broadcast_to(image, (count, 8, 8, 3)))
    grey = np.ptp(views, axis=-1).max((1, 2)) < 1e-3
    solarized = (views == np.where(image < 128, image, 255 - image)).all((1, 2, 3))
    blurred = ~grey & ~solarized
    draws = CounterRng(1, 0, tf.range(count), 0)
    sigma = draws.uniform("0 ThreeAugment sigma", 0.1, 2.0).numpy()
    expected = three_augment.blur(tf.constant(np.stack([image] * count), tf.float32), tf.constant(sigma)).numpy()
    assert np.abs(views - expected)[blurred].max() < 1e-2
    assert not (grey & solarized).any()
    for share in (grey.mean(), solarized.mean(), blurred.mean()):
        assert abs(share - 1 / 3) < 3 * math.sqrt(2 / 9 / count)


def test_jitter_is_three_enhancements_of_pil_in_a_drawn_order():
    images = noisy(count=60)
    views = view_of("jitter:0.3", images)
    draws = CounterRng(1, 0, tf.range(60), 0)
    factors = draws.uniform("0 Jitter factor", 0.7, 1.3, count=3).numpy()
    orders = np.argsort(draws.uniform("0 Jitter order", count=3).numpy(), axis=1)
    kinds = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    for image, view, factor, order in zip(images, views, factors, orders, strict=True):
        pil = Image.fromarray(image)
        for number in order:
            pil = kinds[number](pil).enhance(float(factor[number]))
        assert np.abs(view - np.asarray(pil, np.float32)).max() <= 5  # PIL cuts fractions off three times
        assert np.abs(view - np.asarray(pil, np.float32)).mean() <= 2
    assert len({tuple(order) for order in orders}) == 6
    assert factors.min() < 0.71 and factors.max() > 1.29


def test_jitter_of_nothing_changes_nothing():
    images = noisy(count=4)
    np.testing.assert_allclose(view_of("jitter:0", images), images, atol=1e-3)


def test_a_simple_crop_of_images_in_memory_mirrors_them_at_their_edges():
    images = noisy(16, 16, count=200)
    padded = np.pad(images, ((0, 0), (4, 4), (4, 4), (0, 0)), mode="reflect")
    places = set()
    for image, view in zip(padded, view_of("simple_crop", images), strict=True):
        result = [(y, x) for y in range(9) for x in range(9) if np.array_equal(image[y : y + 16, x : x + 16], view)]
        assert len(result) == 1
        places.add(result[0])
    assert {y for y, _ in places} == {x for _, x in places} == set(range(9))


def _torchvisions(picture: Image.Image, size: int, left: int, top: int) -> np.ndarray:
    """Resize to the short side, bicubic, mirrored for 4 pixels, and the square at (left, top) of that."""
    short = min(picture.size)
    sides = [int(size * side / short) for side in picture.size]
    resized = np.asarray(picture.resize(sides, Image.Resampling.BICUBIC))
    padded = np.pad(resized, ((4, 4), (4, 4), (0, 0)), mode="reflect")
    return padded[top : top + size, left : left + size]


@pytest.mark.parametrize("size", [(90, 60), (60, 90), (75, 75), (101, 50)])
def test_a_simple_crop_of_a_whole_picture_is_the_published_one(size):
    width, height = size
    picture, side, count = Image.fromarray(noisy(height, width)[0]), 32, 60
    views = ImageViews(["simple_crop+flip"], 1, 1, FILL, image_size=side)
    assert views.needs_windows
    sizes = tf.constant([[width, height]] * count)
    places = views.windows(tf.range(count), sizes, 0).numpy()[:, 0]
    scale = np.array([side * length // min(size) for length in size]) / size
    corners = np.rint(places[:, :2] * scale).astype(int) + 4
    result = np.stack([np.asarray(image_decoding.window(picture, side, place, np.array(size))) for place in places])
    for (left, top), window in zip(corners, result, strict=True):
        difference = np.abs(window.astype(int) - _torchvisions(picture, side, left, top))
        # a pixel at the window's edge is made without what lies beyond
        assert difference.max() <= 12 and (difference > 1).mean() < 0.03, (left, top)
    for axis, length in enumerate(size):
        room = side * length // min(size) - side + 8
        assert corners[:, axis].min() >= 0 and corners[:, axis].max() <= room
        assert np.ptp(corners[:, axis]) > 0.7 * room
    cut = views.view(result[:4], tf.range(4), 0, 0, cut=True).numpy()
    flip = CounterRng(1, 0, tf.range(4), 0).uniform("1 Flip").numpy() < 0.5
    np.testing.assert_array_equal(cut, np.where(flip[:, None, None, None], result[:4, :, ::-1], result[:4]))


def test_windows_inside_a_picture_are_what_they_were():
    """Rounding beyond the edge by less than half a pixel mirrors nothing."""
    picture = Image.fromarray(noisy(60, 90)[0])
    place = np.array([10.0, -1e-5, 70.00001, 60.00001])
    inside = picture.crop((10, 0, 71, 60)).resize((32, 32), Image.Resampling.BICUBIC, box=(0, 0, 60.00001, 60))
    np.testing.assert_array_equal(image_decoding.window(picture, 32, place, np.array([90, 60])), inside)


def test_branches_may_begin_differently():
    views = ImageViews(["simple_crop", "resized_crop:0.08", "flip"], 3, 1, FILL, image_size=32)
    places = views.windows(tf.range(50), tf.constant([[60, 40]] * 50), 0).numpy()
    extents = places[..., 2:] - places[..., :2]
    np.testing.assert_allclose(extents[:, 0], 40, rtol=1e-5)
    assert (extents[:, 1].prod(-1) >= 0.07 * 2400).all() and (places[:, 2] == 0).all()


def test_scenes_take_tones_and_refuse_a_crop_that_masks_cannot_follow():
    SegmentationViews(["crop+three_augment+jitter"], 1, 1, FILL, image_size=32)
    with pytest.raises(UserError, match="simple_crop does not crop masks; give scale"):
        SegmentationViews(["simple_crop"], 1, 1, FILL, image_size=32)
