"""Adaptive pooling against Keras, bicubic resizing against PyTorch, and tables of positions for another grid."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from dico_tf.layers.embeddings import ClassToken, Positions, resize_positions
from dico_tf.layers.resizing import AdaptiveAveragePooling, ResizeImage, bicubic

DRAW = np.random.default_rng(0)
MAP = np.array([[((3 * i * i + 5 * j * j + 2 * i * j) % 11) / 4 for j in range(3)] for i in range(4)])
# torch.nn.functional.interpolate(mode="bicubic", align_corners=False) of it in float64, PyTorch 2
LARGER = [
    [-0.197020773, 0.065201601, 0.509477749, 1.141493056, 1.769955155, 2.20801319, 2.467488409],
    [0.263005649, 0.599945335, 1.28298105, 1.875, 1.955357143, 1.742984694, 1.684334001],
    [0.517795982, 0.974512573, 1.975841229, 2.630208333, 2.24977223, 1.440195275, 1.096855682],
    [-0.012473764, 0.548066995, 1.724990889, 2.630208333, 2.50062257, 1.866640853, 1.627125429],
    [0.575004555, 0.850856414, 1.430575802, 1.875, 1.807762391, 1.492073615, 1.372335095],
    [1.358158963, 1.315884911, 1.245173814, 1.141493056, 1.034259091, 0.957329881, 0.912308673],
]
SMALLER = [[0.390315303, 1.992528845], [1.032318115, 1.840911865], [1.183935095, 1.198909053]]


def test_parts_are_equal_and_overlap_where_they_share_a_place():
    x = np.arange(16.0, dtype=np.float32).reshape(1, 4, 4, 1)
    rows = [(0, 2), (1, 3), (2, 4)]
    expected = [[x[0, a:b, c:d, 0].mean() for c, d in rows] for a, b in rows]
    assert np.asarray(AdaptiveAveragePooling(3)(x))[0, ..., 0] == pytest.approx(np.array(expected))


@pytest.mark.parametrize("sides", [(16, 16), (7, 5), (6, 12)])
@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_means_are_those_of_keras(sides, count):
    if min(sides) < count:
        return
    x = DRAW.normal(size=(2, *sides, 3)).astype(np.float32)
    assert np.asarray(AdaptiveAveragePooling(count)(x)) == pytest.approx(
        np.asarray(keras.layers.AdaptiveAveragePooling2D(count)(x)), abs=1e-6
    )


def test_maps_with_fewer_places_than_parts_repeat_them_within_graphs_too():
    x = DRAW.normal(size=(2, 1, 2, 3)).astype(np.float32)
    result = tf.function(AdaptiveAveragePooling(6))(x).numpy()
    assert result.shape == (2, 6, 6, 3)
    assert result == pytest.approx(np.broadcast_to(np.repeat(x, 3, axis=2), (2, 6, 6, 3)), abs=1e-6)


@pytest.mark.parametrize("golden", [LARGER, SMALLER], ids=["larger", "smaller"])
def test_a_map_is_resized_as_pytorch_does_it(golden):
    sides = np.shape(golden)
    channels = np.stack([MAP, 1 - MAP], axis=-1)
    result = bicubic(channels, sides)
    assert result[..., 0] == pytest.approx(np.array(golden), abs=1e-8)
    assert result[..., 1] == pytest.approx(1 - np.array(golden), abs=1e-8)


def test_a_map_of_the_same_size_stays_as_it_is():
    assert np.array_equal(bicubic(MAP[..., None], (4, 3))[..., 0], MAP)


@pytest.mark.parametrize("sides", [(28, 28), (24, 24), (9, 16), (7, 7)])
def test_places_of_a_vit_are_resized_as_pytorch_does_it(sides):
    torch = pytest.importorskip("torch", reason="PyTorch, the other side of the comparison, is not installed")
    table = np.random.default_rng(0).normal(size=(14, 14, 8)).astype(np.float32)
    theirs = torch.nn.functional.interpolate(
        torch.tensor(table.transpose(2, 0, 1)[None]), size=sides, mode="bicubic", align_corners=False
    )
    ours = bicubic(table, sides)
    assert ours.dtype == np.float32
    assert ours == pytest.approx(theirs[0].numpy().transpose(1, 2, 0), abs=1e-4)


def test_only_tables_of_places_are_fitted_and_the_class_token_is_not_touched():
    places, token = Positions(), ClassToken(placed=True)
    places.build((None, 6, 7, 5)), token.build((None, 42, 5))
    table = np.random.default_rng(1).normal(size=(4, 3, 5)).astype(np.float32)
    assert np.array_equal(resize_positions(places.table, table), bicubic(table, (6, 7)))
    assert resize_positions(places.table, table[..., :4]).shape == (4, 3, 4)  # assigning it fails
    for variable in (token.token, token.place):
        assert np.array_equal(resize_positions(variable, table[0, 0]), table[0, 0])


@pytest.mark.parametrize("size", [5, 12, 17, 32])
def test_images_are_resized_as_tensorflow_does_with_antialiasing(size):
    images = np.random.default_rng(0).uniform(0, 255, (2, 17, 20, 3)).astype(np.float32)
    expected = tf.image.resize(images, (size, size), antialias=True)
    layer = ResizeImage(size)
    np.testing.assert_allclose(layer(images), expected, atol=1e-3)
    assert layer.compute_output_spec(keras.KerasTensor((None, 17, 20, 3))).shape == (None, size, size, 3)
    assert ResizeImage.from_config(layer.get_config()).size == size
