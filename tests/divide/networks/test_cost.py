"""Multiply-adds against counts worked by hand."""

import keras
import pytest

from dico_tf.divide.networks.cost import cost, counted
from dico_tf.models.menu import PRESETS


def _model(*layers, size=8, channels=4):
    return keras.Sequential([keras.Input((size, size, channels)), *layers])


@pytest.mark.parametrize(
    ("layer", "params", "macs"),
    [
        (keras.layers.Conv2D(6, 3, padding="same"), 3 * 3 * 4 * 6 + 6, 64 * 3 * 3 * 4 * 6),
        (keras.layers.Conv2D(6, 3, strides=2, padding="same"), 3 * 3 * 4 * 6 + 6, 16 * 3 * 3 * 4 * 6),
        (keras.layers.Conv2D(6, 3, groups=2, padding="same"), 3 * 3 * 2 * 6 + 6, 64 * 3 * 3 * 2 * 6),
        (keras.layers.DepthwiseConv2D(3, padding="same"), 3 * 3 * 4 + 4, 64 * 3 * 3 * 4),
        (keras.layers.DepthwiseConv2D(3, depth_multiplier=2), 3 * 3 * 8 + 8, 36 * 3 * 3 * 8),
        (keras.layers.Dense(10), 4 * 10 + 10, 64 * 4 * 10),
        (keras.layers.BatchNormalization(), 8, 0),
    ],
)
def test_a_layer_costs_what_a_hand_counts(layer, params, macs):
    found = cost(_model(layer))
    assert (found.params, found.macs) == (params, macs)


def test_counting_makes_no_weights(monkeypatch):
    made = []
    start = keras.initializers.RandomNormal.__call__
    monkeypatch.setattr(keras.initializers.RandomNormal, "__call__", lambda *a, **k: made.append(a) or start(*a, **k))
    counted(lambda: PRESETS["wrn_tiny"].build(32, 10))
    keras.Sequential([keras.Input((4,)), keras.layers.ReLU()])  # would make what a scope left behind
    assert not made


def test_a_count_is_what_a_built_network_has():
    model = PRESETS["wrn_tiny"].build(32, 10)
    assert counted(lambda: PRESETS["wrn_tiny"].build(32, 10)).params == sum(
        v.numpy().size for v in model.trainable_variables
    )


def test_a_network_inside_a_network_is_counted():
    inner = _model(keras.layers.Conv2D(6, 3, padding="same"))
    outer = _model(inner, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(10))
    assert cost(outer).macs == 64 * 3 * 3 * 4 * 6 + 6 * 10
