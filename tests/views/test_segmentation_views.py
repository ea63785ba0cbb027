"""Views of scenes: one geometry for picture, mask and all branches, and lights of their own."""

import numpy as np
import pytest
import tensorflow as tf

from dico_tf.errors import UserError
from dico_tf.views import policies
from dico_tf.views.augmentation_chains import RANDAUGMENT, in_place_only
from dico_tf.views.image_views import ImageViews
from dico_tf.views.segmentation_views import SegmentationViews

FILL = (124.0, 116.0, 104.0)
B = 512
INDEX = tf.range(B, dtype=tf.int64)
SIZES = tf.tile([[240, 180]], [B, 1])


def views(*names, splits=2, seed=1, same=False, image_size=128):
    return SegmentationViews(names, splits, seed, FILL, same=same, image_size=image_size)


def places(policy, epoch=0, seed=1, sizes=SIZES, **options):
    return views(policy, seed=seed, **options).windows(INDEX, sizes, epoch).numpy()


def test_scales_fill_their_range_and_keep_the_aspect():
    resized = places("scale:0.5:2+crop")[:, :2]
    factors = resized[:, 0] / 240
    assert factors.min() < 0.52 and factors.max() > 1.97 and factors.mean() == pytest.approx(1.25, abs=0.05)
    assert np.abs(resized[:, 1] - 180 * factors).max() <= 0.9


def test_scales_may_come_in_steps():
    factors = places("scale:0.5:2:0.25")[:, 0] / 240
    assert np.unique(factors).tolist() == [0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0]


def test_crops_lie_anywhere_in_the_picture_and_pictures_anywhere_in_larger_crops():
    corners = places("crop")[:, 2:]
    assert corners.min(0).tolist() == [0, 0] and corners.max(0).tolist() == [112, 52]
    corners = places("crop", sizes=tf.tile([[100, 180]], [B, 1]))[:, 2:]
    assert corners.min(0).tolist() == [-28, 0] and corners.max(0).tolist() == [0, 52]


def test_without_crop_the_middle_is_seen():
    assert np.unique(places("flip"), axis=0).tolist() == [[240, 180, 56, 26]]


def test_places_are_a_function_of_seed_epoch_and_image():
    first = places("scale+crop")
    assert np.array_equal(first, places("scale+crop"))
    shuffled = views("scale+crop").windows(INDEX[::-1], SIZES, 0).numpy()
    assert np.array_equal(first, shuffled[::-1])
    for other in (places("scale+crop", epoch=1), places("scale+crop", seed=2)):
        assert (first != other).any(1).mean() > 0.9


def _scenes(count=64):
    mask = np.random.default_rng(0).integers(0, 5, (count, 12, 10)).astype(np.uint8)
    return tf.constant(np.repeat(mask[..., None] * 50, 3, -1)), tf.constant(mask)


def test_every_second_scene_is_flipped_picture_and_mask_alike():
    images, masks = _scenes()
    both, turned = views("flip").pair(images, masks, INDEX[:64], 0)
    flipped = (turned.numpy() != masks.numpy()).any((1, 2))
    assert 0.3 < flipped.mean() < 0.7
    assert np.array_equal(turned.numpy()[flipped], masks.numpy()[flipped][:, :, ::-1])
    for view in both:
        assert np.array_equal(view.numpy()[..., 0], turned.numpy() * 50.0)


def test_branches_see_one_place_in_lights_of_their_own():
    images, masks = _scenes()
    one, other = views("flip+randaugment:9").pair(images, masks, INDEX[:64], 0)[0]
    assert (np.abs(one - other).max((1, 2, 3)) > 1).mean() > 0.5
    one, other = views("flip+randaugment:9", same=True).pair(images, masks, INDEX[:64], 0)[0]
    assert np.array_equal(one, other)
    one, other = views("flip", "flip+erase:0.2:0.3:p=1").pair(images, masks, INDEX[:64], 0)[0]
    assert 0.15 < (one != other).numpy().any(-1).mean() < 0.35


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("policy", ["randaugment:9", "autoaugment_cifar", "autoaugment_imagenet", "trivialaugment"])
def test_lights_move_no_pixel(policy, axis):
    """A picture of equal rows, or columns, keeps them equal; rotations, shears and translations would not."""
    line = np.random.default_rng(3).integers(0, 256, (1, 16, 16, 3)).mean(axis, keepdims=True)
    picture = tf.constant(np.broadcast_to(line, (B, 16, 16, 3)), tf.float32)
    view = views(policy).pair(picture, tf.zeros((B, 16, 16), tf.uint8), INDEX, 0)[0][0].numpy()
    inner = np.moveaxis(view, axis, 1)[:, 2:-2]  # sharpness leaves the rim as it is, twice at most
    assert np.abs(inner - inner[:, :1]).max() < 1e-3
    assert (np.abs(view - picture).max((1, 2, 3)) > 1).mean() > 0.3
    assert len(in_place_only(RANDAUGMENT)) == 10


def test_what_segmentation_cannot_see_is_refused():
    with pytest.raises(UserError, match="give scale, crop and flip with the same arguments"):
        policies.parse_all(("crop+flip", "crop"), 2, "segmentation")
    with pytest.raises(UserError, match="resized_crop does not crop masks; give scale"):
        policies.parse_all(("resized_crop+flip",), 2, "segmentation")
    with pytest.raises(UserError, match="short_side does not crop masks; give scale"):
        policies.parse_all(("short_side+flip",), 2, "segmentation")
    with pytest.raises(UserError, match="crop and flip at most once each"):
        policies.parse_all(("flip+crop+flip",), 2, "segmentation")
    with pytest.raises(UserError, match="scale is for --task=segmentation; give resized_crop"):
        ImageViews(["scale+crop"], 2, 0, FILL)
    with pytest.raises(UserError, match="0 < least <= most"):
        policies.parse("scale:2:1")


def test_scene_views_survive_their_config():
    one = views("scale:0.5:2+crop+flip", "scale:0.5:2+crop+flip+cutout")
    again = SegmentationViews.from_config(one.get_config())
    assert again.get_config() == one.get_config()
    assert np.array_equal(again.windows(INDEX, SIZES, 3), one.windows(INDEX, SIZES, 3))
