"""Means over parts of a map, against slices and against Keras."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from dico_tf.layers.parts import Parts

DRAW = np.random.default_rng(0)


def test_parts_are_equal_and_overlap_where_they_share_a_place():
    x = np.arange(16.0, dtype=np.float32).reshape(1, 4, 4, 1)
    rows = [(0, 2), (1, 3), (2, 4)]
    expected = [[x[0, a:b, c:d, 0].mean() for c, d in rows] for a, b in rows]
    assert np.asarray(Parts(3)(x))[0, ..., 0] == pytest.approx(np.array(expected))


@pytest.mark.parametrize("sides", [(16, 16), (7, 5), (6, 12)])
@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_means_are_those_of_keras(sides, count):
    if min(sides) < count:
        return
    x = DRAW.normal(size=(2, *sides, 3)).astype(np.float32)
    assert np.asarray(Parts(count)(x)) == pytest.approx(
        np.asarray(keras.layers.AdaptiveAveragePooling2D(count)(x)), abs=1e-6
    )


def test_maps_with_fewer_places_than_parts_repeat_them_within_graphs_too():
    x = DRAW.normal(size=(2, 1, 2, 3)).astype(np.float32)
    found = tf.function(Parts(6))(x).numpy()
    assert found.shape == (2, 6, 6, 3)
    assert found == pytest.approx(np.broadcast_to(np.repeat(x, 3, axis=2), (2, 6, 6, 3)), abs=1e-6)
