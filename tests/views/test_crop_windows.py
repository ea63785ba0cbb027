import math

import numpy as np
import pytest
import tensorflow as tf

from dico_tf.views.counter_rng import CounterRng
from dico_tf.views.crop_windows import area_windows
from dico_tf.views.image_views import ImageViews

FILL = (125.0, 60.0, 200.0)
N = 20_000


def torchvisions(width: int, height: int, min_area: float, draw: np.random.Generator) -> tuple[int, int, int, int]:
    """RandomResizedCrop.get_params, as torchvision has it: left, top, right, bottom."""
    ratios = (3 / 4, 4 / 3)
    for _ in range(10):
        area = width * height * draw.uniform(min_area, 1.0)
        aspect = math.exp(draw.uniform(math.log(ratios[0]), math.log(ratios[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            top, left = draw.integers(0, height - h + 1), draw.integers(0, width - w + 1)
            return left, top, left + w, top + h
    w, h = width, height
    if width / height < ratios[0]:
        h = round(w / ratios[0])
    elif width / height > ratios[1]:
        w = round(h * ratios[1])
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def ours(width, height, min_area=0.1, count=N):
    sizes = tf.tile(tf.constant([[width, height]]), [count, 1])
    return area_windows(sizes, min_area, CounterRng(1, 0, tf.range(count))).numpy()


@pytest.mark.parametrize(("width", "height"), [(500, 375), (375, 500), (224, 224), (640, 300)])
def test_windows_are_distributed_as_torchvisions(width, height):
    draw = np.random.default_rng(0)
    got = ours(width, height)
    want = np.array([torchvisions(width, height, 0.1, draw) for _ in range(N)])
    assert got.min() >= 0 and (got[:, 2] <= width).all() and (got[:, 3] <= height).all()
    for some in (got, want):
        assert ((some[:, 2:] - some[:, :2]) > 0).all()
    measures = [lambda p: p[:, 2] - p[:, 0], lambda p: p[:, 3] - p[:, 1], lambda p: p[:, 0], lambda p: p[:, 1]]
    measures += [lambda p: (p[:, 2] - p[:, 0]) * (p[:, 3] - p[:, 1]), lambda p: p[:, 0] + p[:, 2]]
    shares = np.linspace(0.02, 0.98, 25)
    for measure in measures:
        a, b = np.sort(measure(got)), np.sort(measure(want))
        # Kolmogorov and Smirnov: the largest distance of the two distribution functions, at the 0.1 % level
        values = np.quantile(b, shares)
        distance = np.abs(np.searchsorted(a, values, "right") - np.searchsorted(b, values, "right")).max() / N
        assert distance < 1.95 * math.sqrt(2 / N)


@pytest.mark.parametrize(("width", "height"), [(2000, 100), (60, 900)])
def test_of_a_very_long_picture_the_middle_is_taken_as_often_as_torchvision_does(width, height):
    draw = np.random.default_rng(0)
    got = ours(width, height)
    want = np.array([torchvisions(width, height, 0.1, draw) for _ in range(N)])
    middle = (min(width, round(height * 4 / 3)), min(height, round(width * 4 / 3)))
    fallback = [(width - middle[0]) // 2, (height - middle[1]) // 2]
    fallback += [fallback[0] + middle[0], fallback[1] + middle[1]]
    shares = [(some == fallback).all(1).mean() for some in (got, want)]
    assert shares[1] > 0.5 and shares[0] == pytest.approx(shares[1], abs=0.02)


def test_the_whole_area_of_a_picture_of_allowed_aspect_is_the_whole_picture():
    assert (ours(80, 80, 1.0, 500)[:, 2:] - ours(80, 80, 1.0, 500)[:, :2] <= 80).all()
    assert (ours(40, 40, 0.9999, 500) == [0, 0, 40, 40]).all(1).mean() > 0.2


def test_each_branch_draws_its_own_window_of_the_same_picture():
    index, sizes = tf.range(64, dtype=tf.int64), tf.tile(tf.constant([[500, 375]]), [64, 1])
    views = ImageViews(["resized_crop+flip", "flip", "resized_crop:0.5"], 3, 1, FILL)
    places = views.windows(index, sizes, 2).numpy()
    assert views.needs_windows and places.shape == (64, 3, 4)
    assert (places[:, 1] == 0).all()
    area = np.prod(places[..., 2:] - places[..., :2], axis=-1) / (500 * 375)
    assert (places[:, 0] != places[:, 2]).any(1).all() and area[:, 0].min() < 0.3 < 0.49 < area[:, 2].min()
    for others in ({"epoch": 3}, {"index": index + 1}):
        again = views.windows(**{"index": index, "sizes": sizes, "epoch": 2, **others}).numpy()
        assert (again[:, 0] != places[:, 0]).any(1).mean() > 0.95
    np.testing.assert_array_equal(views.windows(index[::-1], sizes, 2), places[::-1])


def test_an_index_per_branch_draws_what_each_branch_would_draw_of_its_own_pictures():
    index = tf.constant(np.random.default_rng(0).integers(0, 1000, (32, 2)))
    sizes = tf.constant(np.random.default_rng(1).integers(100, 900, (32, 2, 2)), tf.int32)
    views = ImageViews(["resized_crop"], 2, 1, FILL)
    places = views.windows(index, sizes, 0)
    for branch in range(2):
        alone = views.windows(index[:, branch], sizes[:, branch], 0)
        np.testing.assert_array_equal(places[:, branch], alone[:, branch])


def test_with_the_same_view_for_all_one_window_serves_them():
    index, sizes = tf.range(8, dtype=tf.int64), tf.tile(tf.constant([[50, 40]]), [8, 1])
    apart, same = (ImageViews(["resized_crop+flip"], 3, 1, FILL, same=same) for same in (False, True))
    places = same.windows(index, sizes, 0)
    np.testing.assert_array_equal(places, apart.windows(index, sizes, 0)[:, :1])
    images = tf.random.stateless_uniform([8, 1, 16, 16, 3], [1, 2], 0, 255)
    views = same(images, index, 0, cut=True)
    assert len(views) == 3 and views[0] is views[1] is views[2]


@pytest.mark.parametrize(
    ("policy", "needs_windows"), [("resized_crop+flip", True), ("flip+resized_crop", False), ("none", False)]
)
def test_only_a_policy_that_begins_with_a_resized_crop_looks_at_whole_pictures(policy, needs_windows):
    assert ImageViews([policy], 2, 1, FILL).needs_windows == needs_windows


def test_images_cut_beforehand_pass_the_rest_of_the_policy_alone():
    images = tf.random.stateless_uniform([16, 2, 12, 12, 3], [1, 2], 0, 255)
    index = tf.range(16, dtype=tf.int64)
    first, second = ImageViews(["resized_crop", "resized_crop+erase:p=1"], 2, 1, FILL)(images, index, 0, cut=True)
    np.testing.assert_array_equal(first, images[:, 0])
    unchanged = (second == images[:, 1]).numpy().all(-1)
    assert 0.75 < unchanged.mean() < 0.95


def test_a_window_of_images_in_memory_is_the_one_drawn_for_a_picture_of_their_size():
    y, x = np.mgrid[:40, :40]
    images = np.tile(np.stack([6 * x, 6 * y, 3 * (x + y)], -1)[None], (64, 1, 1, 1)).astype(np.float32)
    index, sizes = tf.range(64, dtype=tf.int64), tf.tile(tf.constant([[40, 40]]), [64, 1])
    views = ImageViews(["resized_crop"], 1, 1, FILL)
    got = views.view(images, index, 0, 0).numpy()
    left, top, right, bottom = views.windows(index, sizes, 0).numpy()[:, 0].T
    for axis, channel, low, high in ((2, 0, left, right), (1, 1, top, bottom)):
        ends = got[..., channel].mean(3 - axis)[:, [2, -3]]  # away from the rim, where the edge is repeated
        want = [6 * (low + (high - low) * place / 40 - 0.5) for place in (2.5, 37.5)]
        np.testing.assert_allclose(ends, np.transpose(want), atol=0.1)
