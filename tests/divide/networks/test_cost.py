"""Multiply-adds against counts by hand."""

import keras
import numpy as np
import pytest
from keras import layers

from dico_tf.divide.networks.cost import NetworkCost, cost
from dico_tf.divide.networks.graph import flat, weightless
from dico_tf.errors import UserError
from dico_tf.models.presets import PRESETS


def _model(*chain, shape=(8, 8, 4)):
    return keras.Sequential([keras.Input(shape), *chain])


@pytest.mark.parametrize(
    ("layer", "params", "macs"),
    [
        (layers.Conv2D(6, 3, padding="same"), 3 * 3 * 4 * 6 + 6, 64 * 3 * 3 * 4 * 6),
        (layers.Conv2D(6, 3, strides=2, padding="same"), 3 * 3 * 4 * 6 + 6, 16 * 3 * 3 * 4 * 6),
        (layers.Conv2D(6, 3, groups=2, padding="same"), 3 * 3 * 2 * 6 + 6, 64 * 3 * 3 * 2 * 6),
        (layers.Conv2D(6, 3, dilation_rate=2), 3 * 3 * 4 * 6 + 6, 4 * 4 * 3 * 3 * 4 * 6),
        (layers.Conv2DTranspose(6, 3, strides=2, padding="same"), 3 * 3 * 4 * 6 + 6, 64 * 3 * 3 * 4 * 6),
        (layers.DepthwiseConv2D(3, padding="same"), 3 * 3 * 4 + 4, 64 * 3 * 3 * 4),
        (layers.DepthwiseConv2D(3, depth_multiplier=2), 3 * 3 * 8 + 8, 36 * 3 * 3 * 8),
        (layers.SeparableConv2D(6, 3, depth_multiplier=2), 3 * 3 * 8 + 8 * 6 + 6, 36 * (3 * 3 * 8 + 8 * 6)),
        (layers.Dense(10), 4 * 10 + 10, 64 * 4 * 10),
        (layers.EinsumDense("bhwc,cno->bhwno", (8, 8, 2, 5)), 4 * 2 * 5, 64 * 4 * 2 * 5),
        (layers.EinsumDense("...c,co->...o", 5, bias_axes="o"), 4 * 5 + 5, 64 * 4 * 5),
        (layers.BatchNormalization(), 8, 0),
    ],
)
def test_a_layer_costs_what_a_hand_counts(layer, params, macs):
    assert cost(_model(layer)) == NetworkCost(params=params, macs=macs)


@pytest.mark.parametrize(
    ("layer", "shape", "params", "macs"),
    [
        (layers.Conv1D(6, 3), (8, 4), 3 * 4 * 6 + 6, 6 * 3 * 4 * 6),
        (layers.DepthwiseConv1D(3), (8, 4), 3 * 4 + 4, 6 * 3 * 4),
        (layers.SeparableConv1D(6, 3), (8, 4), 3 * 4 + 4 * 6 + 6, 6 * (3 * 4 + 4 * 6)),
        (layers.Conv1DTranspose(6, 3), (8, 4), 3 * 4 * 6 + 6, 8 * 3 * 4 * 6),
        (layers.Conv3D(6, 2), (4, 5, 6, 2), 8 * 2 * 6 + 6, 3 * 4 * 5 * 8 * 2 * 6),
        (layers.Conv3DTranspose(6, 2), (4, 5, 6, 2), 8 * 2 * 6 + 6, 4 * 5 * 6 * 8 * 2 * 6),
        (layers.SimpleRNN(5), (7, 3), 3 * 5 + 5 * 5 + 5, 7 * (3 * 5 + 5 * 5)),
        (layers.LSTM(5), (7, 3), 4 * (3 * 5 + 5 * 5 + 5), 7 * 4 * (3 * 5 + 5 * 5)),
    ],
)
def test_a_layer_of_one_or_three_dimensions_costs_what_a_hand_counts(layer, shape, params, macs):
    assert cost(_model(layer, shape=shape)) == NetworkCost(params=params, macs=macs)


def test_an_image_may_come_channels_first():
    result = cost(_model(layers.Conv2D(6, 3, data_format="channels_first"), shape=(4, 8, 8)))
    assert result.macs == 36 * 3 * 3 * 4 * 6


def test_attention_costs_its_projections_and_its_two_products():
    query, value = keras.Input((7, 12)), keras.Input((5, 10))
    layer = layers.MultiHeadAttention(num_heads=3, key_dim=4, value_dim=2)
    model = keras.Model([query, value], layer(query, value))
    queries, keys, values, results = 7 * 12 * 3 * 4, 5 * 10 * 3 * 4, 5 * 10 * 3 * 2, 7 * 3 * 2 * 12
    products = 7 * 5 * 3 * (4 + 2)
    assert cost(model).macs == queries + keys + values + results + products
    assert cost(model).params == (12 + 1) * 12 + (10 + 1) * 12 + (10 + 1) * 6 + 6 * 12 + 12


def test_attention_whose_heads_share_keys_costs_fewer_projections():
    x = keras.Input((7, 12))
    layer = layers.GroupQueryAttention(head_dim=4, num_query_heads=6, num_key_value_heads=2)
    result = cost(keras.Model(x, layer(x, x)))
    assert result.macs == 7 * 12 * 4 * (6 + 2 + 2 + 6) + 7 * 7 * 6 * (4 + 4)
    assert result.params == 2 * (12 * 24) + 2 * (12 * 8) + 24 + 8 + 8 + 12


def test_a_mask_and_the_order_of_arguments_change_no_count():
    query, value, key = keras.Input((7, 12)), keras.Input((5, 10)), keras.Input((5, 8))
    mask = keras.Input((7, 5), dtype="bool")
    layer = layers.MultiHeadAttention(num_heads=3, key_dim=4, value_dim=2)
    plain = cost(keras.Model([query, value, key], layer(query, value, key)))
    masked = layer(key=key, value=value, query=query, attention_mask=mask)
    assert cost(keras.Model([query, value, key, mask], masked)) == plain
    result = cost(keras.Model([query, value, mask], layers.MultiHeadAttention(3, 4)(query, value, attention_mask=mask)))
    assert result == cost(keras.Model([query, value], layers.MultiHeadAttention(3, 4)(query, value)))


def test_attention_along_one_axis_meets_the_keys_of_that_axis():
    x = keras.Input((4, 6, 10))
    result = cost(keras.Model(x, layers.MultiHeadAttention(3, 5, attention_axes=(2,))(x, x)))
    assert result.macs == 4 * (24 * 10 * 3 * 5) + 24 * 6 * 3 * (5 + 5)


def test_products_with_constants_are_counted():
    x, constant = keras.Input((7, 4)), np.ones((4, 5), "float32")
    assert cost(keras.Model(x, keras.ops.matmul(x, constant))).macs == 7 * 4 * 5
    assert cost(keras.Model(x, keras.ops.matmul(constant.T, keras.ops.swapaxes(x, 1, 2)))).macs == 5 * 4 * 7
    assert cost(keras.Model(x, keras.ops.einsum("btc,cd->btd", x, constant))).macs == 7 * 4 * 5
    assert cost(keras.Model(x, keras.ops.einsum("btc,cd", x, constant))).macs == 7 * 4 * 5


def test_products_written_as_operations_are_counted():
    a, b = keras.Input((7, 4)), keras.Input((4, 5))
    assert cost(keras.Model([a, b], keras.ops.matmul(a, b))).macs == 7 * 4 * 5
    assert cost(keras.Model([a, b], keras.ops.einsum("bqd,bdk->bqk", a, b))).macs == 7 * 4 * 5


def test_a_shared_layer_computes_at_every_call_but_has_its_weights_once():
    x = keras.Input((4,))
    dense = layers.Dense(4)
    assert cost(keras.Model(x, dense(dense(dense(x))))) == NetworkCost(params=20, macs=3 * 16)


def test_a_layer_outside_the_graph_costs_nothing():
    x = keras.Input((4,))
    hidden = layers.Dense(5)(x)
    layers.Dense(100)(hidden)
    assert cost(keras.Model(x, hidden)) == NetworkCost(params=25, macs=20)


def test_a_network_inside_a_network_is_counted():
    inner = _model(layers.Conv2D(6, 3, padding="same"))
    outer = _model(inner, layers.GlobalAveragePooling2D(), layers.Dense(10))
    assert cost(outer).macs == 64 * 3 * 3 * 4 * 6 + 6 * 10


def test_a_network_inside_is_counted_at_the_size_it_is_called_with():
    inner = _model(layers.Conv2D(6, 3, padding="same"), shape=(None, None, 4))
    image = keras.Input((8, 8, 4))
    pooled = layers.AveragePooling2D(2)(image)
    outer = keras.Model(image, [inner(image), inner(pooled)])
    assert cost(outer) == NetworkCost(params=3 * 3 * 4 * 6 + 6, macs=(64 + 16) * 3 * 3 * 4 * 6)


def test_an_open_size_leaves_the_multiply_adds_unknown():
    result = cost(_model(layers.Conv2D(6, 3, padding="same"), shape=(None, None, 4)))
    assert result == NetworkCost(params=3 * 3 * 4 * 6 + 6, macs=None)


def test_counting_makes_no_weights(monkeypatch):
    made = []
    start = keras.initializers.RandomNormal.__call__
    monkeypatch.setattr(keras.initializers.RandomNormal, "__call__", lambda *a, **k: made.append(a) or start(*a, **k))
    weightless(lambda: PRESETS["wrn_tiny"].build(32, 10))
    weightless(flat, _model(layers.Dense(2, kernel_initializer="random_normal")))
    made.pop(0)  # the model's own, which was handed in
    keras.Sequential([keras.Input((4,)), layers.ReLU()])  # would make what a scope left behind
    assert not made


def test_a_count_is_what_a_built_network_has():
    result, model = PRESETS["wrn_tiny"].cost(32, 10), PRESETS["wrn_tiny"].build(32, 10)
    assert result.params == sum(v.numpy().size for v in model.trainable_variables)
    assert result.running == sum(v.numpy().size for v in model.non_trainable_variables)


def test_a_model_that_is_no_graph_cannot_be_counted():
    class Own(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(UserError, match=r"Own 'own\w*' is not a functional or sequential Keras model.*keras.Model\("):
        cost(Own())
    with pytest.raises(UserError, match=r"has no input shape yet; begin it with keras\.Input"):
        cost(keras.Sequential([layers.Dense(2)]))
