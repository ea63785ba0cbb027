"""Attention in windows, between channels and of a class token against loops; what each of them costs."""

import keras
import numpy as np
import pytest

from dico_tf.divide.networks.cost import cost
from dico_tf.errors import UserError
from dico_tf.layers.attention import ClassAttention, CrossCovariance
from dico_tf.layers.embeddings import FourierPlaces
from dico_tf.layers.window_attention import Neighbours, WindowAttention

DRAW = np.random.default_rng(0)


def _drawn(layer, *shapes):
    """The layer with random weights, and its inputs."""
    given = [DRAW.normal(size=(2, *shape)).astype(np.float32) for shape in shapes]
    layer(given if len(given) > 1 else given[0])
    for variable in layer.weights:
        variable.assign(DRAW.normal(size=variable.shape))
    return given


def _softmax(x):
    return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


@pytest.mark.parametrize("shift", [(0, 0), (1, 2), (0, 2)])
def test_a_token_sees_its_window_and_nothing_from_over_the_maps_end(shift):
    heads, (rows, columns), (height, width), depth = 2, (2, 4), (6, 8), 3
    layer = WindowAttention(heads, (rows, columns), shift)
    (x,) = _drawn(layer, (height, width, 3 * heads * depth))
    table = layer.table.numpy()
    q, k, v = x.reshape(2, height, width, 3, heads, depth).transpose(3, 0, 1, 2, 4, 5)
    expected = np.zeros((2, height, width, heads, depth), np.float32)

    def place(i, j):
        """Number of the window, and whether the shift brought the token in from over an end."""
        row, column = (i - shift[0]) % height, (j - shift[1]) % width
        return row // rows, column // columns, i < shift[0], j < shift[1]

    tokens = [(i, j) for i in range(height) for j in range(width)]
    for i, j in tokens:
        seen = [other for other in tokens if place(*other) == place(i, j)]
        # within a window that wraps, offsets are counted as the shift laid the tokens out
        bias = np.stack([table[i - m + rows - 1, j - n + columns - 1] for m, n in seen], -1)
        for b in range(2):
            for h in range(heads):
                scores = np.array([q[b, i, j, h] @ k[b, m, n, h] for m, n in seen]) / depth**0.5 + bias[h]
                expected[b, i, j, h] = _softmax(scores) @ np.array([v[b, m, n, h] for m, n in seen])
    result = np.asarray(layer(x))
    assert result == pytest.approx(expected.reshape(2, height, width, -1), abs=1e-5)


def test_channels_attend_to_the_channels_of_their_head():
    heads, depth = 2, 3
    layer = CrossCovariance(heads)
    (x,) = _drawn(layer, (2, 5, 3 * heads * depth))
    q, k, v = x.reshape(2, 10, 3, heads, depth).transpose(2, 0, 3, 4, 1)  # [B, h, d, T]
    q, k = (part / np.linalg.norm(part, axis=-1, keepdims=True) for part in (q, k))
    weights = _softmax(q @ k.transpose(0, 1, 3, 2) * layer.temperature.numpy())
    expected = (weights @ v).transpose(0, 3, 1, 2).reshape(2, 2, 5, -1)
    assert np.asarray(layer(x)) == pytest.approx(expected, abs=1e-5)
    assert np.isfinite(layer(np.zeros_like(x))).all()


def test_a_class_token_attends_to_all():
    layer = ClassAttention(2)
    q, k, v = _drawn(layer, (1, 6), (5, 6), (5, 6))
    for h in range(2):
        part = slice(3 * h, 3 * h + 3)
        weights = _softmax(q[..., part] @ k[..., part].transpose(0, 2, 1) / 3**0.5)
        assert np.asarray(layer([q, k, v]))[..., part] == pytest.approx(weights @ v[..., part], abs=1e-5)


def test_neighbours_stand_side_by_side_column_by_column():
    x = np.arange(6, dtype=np.float32).reshape(1, 2, 3, 1)
    assert np.asarray(Neighbours()(x)).tolist() == [[[[0, 3, 1, 4], [2, 5, 0, 0]]]]
    assert Neighbours().compute_output_shape((None, 5, 4, 3)) == (None, 3, 2, 12)


def _cost(layer, *shapes) -> int:
    inputs = [keras.Input(shape) for shape in shapes]
    return cost(keras.Model(inputs, layer(inputs if len(inputs) > 1 else inputs[0]))).macs


def test_both_products_of_an_attention_are_counted():
    assert _cost(WindowAttention(2, (2, 4)), (4, 8, 18)) == 2 * 32 * 8 * 6
    assert _cost(CrossCovariance(2), (4, 8, 18)) == 2 * 32 * 6 * 3
    assert _cost(ClassAttention(2), (1, 6), (5, 6), (5, 6)) == 2 * 5 * 6
    assert _cost(FourierPlaces(), (4, 8, 6)) == 32 * 64 * 6


def test_what_does_not_divide_is_refused():
    with pytest.raises(UserError, match=r"expected channels in multiples of 6 \(q, k and v of 2 heads\), got 16"):
        CrossCovariance(2)(np.zeros((1, 2, 2, 16), np.float32))
    with pytest.raises(UserError, match="expected a map whose sides are multiples of the window's"):
        WindowAttention(1, (2, 2))(np.zeros((1, 2, 3, 3), np.float32))
