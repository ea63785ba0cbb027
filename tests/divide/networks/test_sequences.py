"""Attention, recurrence, embeddings and einsums, divided."""

import keras
import pytest
from keras import layers, ops

from tests.divide.networks.contract import divided, sizes


def pooled(x, classes=5):
    return layers.Dense(classes, name="head")(layers.GlobalAveragePooling1D()(x))


def test_attention_keeps_its_heads_and_narrows_each():
    x = keras.Input((6, 10))
    wide = layers.Dense(48, name="embed")(x)
    y = layers.MultiHeadAttention(4, 12, value_dim=8, name="attention")(layers.LayerNormalization()(wide), wide)
    y = layers.Add()([wide, y])
    y = layers.Add()([y, layers.Dense(48, name="down")(layers.Dense(96, activation="gelu", name="up")(y))])
    division, branch = divided(keras.Model(x, pooled(y)))
    layer = branch.get_layer("attention")
    assert layer.num_heads == 4 and layer.key_dim < 12 and layer.value_dim < 8 and division.met
    assert sizes(branch, "embed") == sizes(branch, "down") and sizes(branch, "embed")[0] < 48
    assert layer.output.shape[-1] == sizes(branch, "embed")[0]


def test_attention_with_a_width_of_its_own_and_shared_keys():
    x = keras.Input((6, 10))
    wide = layers.Dense(40)(x)
    y = layers.MultiHeadAttention(2, 16, output_shape=24, name="attention")(wide, wide)
    y = layers.GroupQueryAttention(8, 4, 2, name="grouped")(y, layers.Dense(24, name="value")(x))
    _, branch = divided(keras.Model(x, pooled(y)))
    assert (
        sizes(branch, "attention") == sizes(branch, "grouped") == sizes(branch, "value")
        and sizes(branch, "attention")[0] < 24
    )
    assert branch.get_layer("attention").value_dim == branch.get_layer("attention").key_dim < 16
    assert branch.get_layer("grouped").head_dim < 8 and branch.get_layer("grouped").num_query_heads == 4


def test_attention_written_out_in_operations():
    x = keras.Input((6, 10))
    wide = layers.Dense(3 * 48, name="projections")(x)
    wide = ops.transpose(ops.reshape(wide, (-1, 6, 3, 4, 12)), (2, 0, 3, 1, 4))
    query, key, value = wide[0], wide[1], wide[2]  # [B, heads, T, 12]
    scores = ops.softmax(ops.matmul(query, ops.swapaxes(key, -1, -2)))
    y = ops.reshape(ops.transpose(ops.matmul(scores, value), (0, 2, 1, 3)), (-1, 6, 48))
    division, branch = divided(keras.Model(x, pooled(y)), budget="macs")
    assert sizes(branch, "projections")[0] % 12 == 0 and division.met
    assert 3 * branch.get_layer("head").kernel.shape[0] == sizes(branch, "projections")[0]


def test_layers_of_dot_products_tie_queries_to_keys():
    x = keras.Input((6, 10))
    query, key, value = (
        layers.Dense(32, name="query")(x),
        layers.Dense(32, name="key")(x),
        layers.Dense(20, name="value")(x),
    )
    y = layers.Attention()([query, value, key])
    similar = layers.Dot((2, 2))([query, key])
    _, branch = divided(keras.Model(x, [pooled(y), similar]))
    assert sizes(branch, "query") == sizes(branch, "key") and sizes(branch, "query")[0] < 32
    assert branch.outputs[1].shape == (None, 6, 6) and branch.get_layer("head").kernel.shape[0] < 20


@pytest.mark.slow
def test_a_mask_ties_no_width():
    x, mask, padding = keras.Input((6, 10)), keras.Input((6, 6), dtype="bool"), keras.Input((6,), dtype="bool")
    wide = layers.Dense(32, name="wide")(x)
    y = layers.GroupQueryAttention(8, 4, 2)(wide, wide, attention_mask=mask)
    y = layers.Attention()([y, y], mask=[padding, padding])
    _, branch = divided(keras.Model([x, mask, padding], pooled(y)), 32)
    assert sizes(branch, "wide")[0] < 6


def test_the_steps_of_a_recurrence_may_be_channels_that_narrow():
    x = keras.Input((10, 8))
    y = layers.LSTM(12, return_sequences=True, name="steps")(layers.Permute((2, 1))(layers.Dense(32)(x)))
    _, branch = divided(keras.Model(x, pooled(y)))
    assert branch.get_layer("steps").output.shape[1] < 32


def test_recurrent_layers_narrow_with_their_states():
    words = keras.Input((7,), dtype="int32")
    x = layers.Embedding(50, 24, name="words")(words)
    x, state, memory = layers.LSTM(32, return_sequences=True, return_state=True, name="first")(x)
    x = layers.LSTM(32, name="second")(x, initial_state=[state, memory])
    x = layers.GRU(16, name="third")(layers.RepeatVector(3)(x))
    division, branch = divided(keras.Model(words, layers.Dense(5)(x)))
    assert branch.get_layer("first").units == branch.get_layer("second").units < 32 and division.met
    assert branch.get_layer("words").output_dim < 24 and branch.get_layer("words").input_dim == 50


def test_einsums_narrow_the_axes_their_kernels_make():
    x = keras.Input((6, 10))
    y = layers.EinsumDense("btc,cnd->btnd", (None, 4, 12), bias_axes="nd", name="split")(x)
    y = layers.EinsumDense("btnd,ndc->btc", (None, 40), name="joined")(y)
    y = ops.einsum("bts,bsc->btc", ops.einsum("btc,bsc->bts", y, y), y)
    y = layers.EinsumDense("...s,sc->...c", 24, name="last")(y)
    _, branch = divided(keras.Model(x, pooled(y)))
    heads, depth = branch.get_layer("split").output.shape[2:]
    assert heads * depth < 48 and branch.get_layer("joined").kernel.shape[:2] == (heads, depth)
    assert sizes(branch, "joined")[0] < 40 and sizes(branch, "last")[0] < 24


def test_one_dimensional_convolutions_are_divided():
    x = keras.Input((12, 3))
    y = layers.Conv1D(32, 3, name="first")(x)
    y = layers.DepthwiseConv1D(3)(layers.SeparableConv1D(24, 3, name="second")(layers.MaxPooling1D(2)(y)))
    _, branch = divided(keras.Model(x, pooled(y)))
    assert sizes(branch, "first")[0] < 32 and sizes(branch, "second")[0] < 24
