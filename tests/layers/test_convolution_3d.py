"""Convolutions of clips against sums of shifted products, with PyTorch's padding."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from dico_tf.layers import convolution_3d as conv3d

DRAW = np.random.default_rng(0)


def shifted(x, kernel, stride: int):
    """sum over the kernel's entries of shifted x times the entry; (k - 1) / 2 zeros on every side."""
    depth, high, wide = kernel.shape[:3]
    x = tf.pad(x, [(0, 0), *((size // 2,) * 2 for size in (depth, high, wide)), (0, 0)])
    count, rows, columns = (x.shape[axis] - size + 1 for axis, size in zip((1, 2, 3), kernel.shape[:3], strict=True))
    total = 0.0
    for t, i, j in itertools.product(range(depth), range(high), range(wide)):
        part = x[:, t : t + count, i : i + rows : stride, j : j + columns : stride]
        total += part * kernel[t, i, j, 0] if kernel.shape[3] == 1 else part @ kernel[t, i, j]
    return total


def differences(layer, reference, x) -> list[float]:
    """Largest ones of the result, and of the gradients of x and of the kernel."""
    layer.build(x.shape)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        result, expected = layer(x), reference(x, layer.kernel.value)
        weights = tf.constant(DRAW.normal(size=expected.shape).astype("float32"))
        scores = [tf.reduce_sum(y * weights) for y in (result, expected)]
    of_x, of_kernel = ([tape.gradient(s, what) for s in scores] for what in (x, layer.kernel.value))
    assert result.shape == expected.shape == tf.TensorShape(layer.compute_output_shape(x.shape))
    return [float(abs(a - b).numpy().max()) for a, b in ((result, expected), of_x, of_kernel)]


@pytest.mark.parametrize("size", [(4, 7, 7), (3, 6, 8), (1, 5, 4), (5, 1, 1)])
@pytest.mark.parametrize(("kernel", "stride"), [((3, 3, 3), 1), ((3, 3, 3), 2), ((5, 1, 1), 1)])
def test_a_channelwise_convolution_is_a_sum_of_shifted_products(kernel, stride, size):
    x = tf.constant(DRAW.normal(size=(2, *size, 6)).astype("float32"))
    layer = conv3d.ChannelwiseConvolution(6, kernel, strides=(1, stride, stride), padding="same", use_bias=False)
    assert max(differences(layer, lambda x, kernel: shifted(x, kernel, stride), x)) < 1e-4


@pytest.mark.parametrize(("window", "stride"), [(1, 1), (1, 2), (3, 1), (3, 2)])
def test_a_convolution_of_frames_is_one_too(window, stride):
    x = tf.constant(DRAW.normal(size=(2, 3, 7, 6, 5)).astype("float32"))
    layer = conv3d.FrameConvolution(4, (1, window, window), strides=(1, stride, stride), padding="same", use_bias=False)
    assert max(differences(layer, lambda x, kernel: shifted(x, kernel, stride), x)) < 1e-4


def test_padding_stands_on_both_sides_where_it_strides():
    x = tf.reshape(tf.constant([1.0, 2.0, 3.0, 4.0]), (1, 1, 1, 4, 1))
    start = keras.initializers.Ones()
    for kind in (conv3d.ChannelwiseConvolution, conv3d.FrameConvolution):
        layer = kind(1, (1, 1, 3), strides=(1, 1, 2), padding="same", use_bias=False, kernel_initializer=start)
        assert layer(x).numpy().ravel().tolist() == [3, 9]


def test_without_padding_frames_and_borders_go():
    x = tf.constant(DRAW.normal(size=(2, 5, 6, 6, 3)).astype("float32"))
    layer = conv3d.ChannelwiseConvolution(3, 3, padding="valid", use_bias=False)
    inner = shifted(x, layer(x) is not None and layer.kernel.value, 1)[:, 1:-1, 1:-1, 1:-1]
    np.testing.assert_allclose(layer(x), inner, atol=1e-5)


def test_sizes_may_be_open_when_it_is_built():
    image = keras.Input((None, None, None, 3))
    y = conv3d.channelwise(conv3d.convolution(image, 4, "a", 3, 2), (3, 3, 3), "b", 2)
    model = keras.Model(image, conv3d.squeeze_excite(y, 2, "c"))
    for count, size in ((1, 8), (4, 9)):
        assert model(np.zeros((2, count, size, size, 3), "float32")).shape == (
            2,
            count,
            -(-size // 4),
            -(-size // 4),
            4,
        )


def test_a_graph_has_nothing_that_xla_must_compile():
    layer = conv3d.ChannelwiseConvolution(4, 3, strides=(1, 2, 2), padding="same")
    layer.build((None, 4, 8, 8, 4))
    graph = tf.function(layer).get_concrete_function(tf.TensorSpec((None, 4, 8, 8, 4))).graph.as_graph_def()
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    assert not [node.name for node in nodes if "_XlaMustCompile" in node.attr]
    assert sum(node.op == "DepthwiseConv2dNative" for node in nodes) == 3


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (conv3d.ChannelwiseConvolution, {"filters": 4, "kernel_size": 3, "groups": 2}),
        (conv3d.ChannelwiseConvolution, {"filters": 4, "kernel_size": 3, "strides": 2}),
        (conv3d.ChannelwiseConvolution, {"filters": 4, "kernel_size": 2, "padding": "same"}),
        (conv3d.FrameConvolution, {"filters": 4, "kernel_size": 3}),
        (conv3d.FrameConvolution, {"filters": 4, "kernel_size": (1, 3, 3), "groups": 2}),
    ],
)
def test_what_they_do_not_know_is_refused(kind, options):
    with pytest.raises(ValueError):
        kind(**options)


def test_layers_come_back_from_their_config():
    for layer in (conv3d.ChannelwiseConvolution(4, (5, 1, 1), padding="same"), conv3d.Mean((1, 2))):
        again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
        assert again.get_config() == layer.get_config()
    assert conv3d.Mean((1, 2)).compute_output_shape((None, 3, 3, 5)) == (None, 5)
