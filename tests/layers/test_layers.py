"""Layers against the formulas they are documented with."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from dico_tf.layers.channel_attention import WeighedHalves, squeezed
from dico_tf.layers.convolution import DilatedConvolution, GroupedConvolution, Pointwise, convolution
from dico_tf.layers.drop_path import DropBlock, DropPath
from dico_tf.layers.image_input import Normalisation, Normalise
from dico_tf.layers.normalisation import BatchNorm, pooled
from dico_tf.layers.shake import ShakeDrop, ShakeShake

X = np.random.default_rng(0).normal(3, 2, (8, 5, 5, 4)).astype(np.float32)


def test_a_training_pass_normalises_by_the_batch_and_remembers_the_unbiased_variance():
    norm = BatchNorm(momentum=0.9, epsilon=1e-5)
    y = np.asarray(norm(X, training=True))
    mean, variance, count = X.mean((0, 1, 2)), X.var((0, 1, 2)), 8 * 5 * 5
    assert y == pytest.approx((X - mean) / np.sqrt(variance + 1e-5), abs=1e-5)
    assert np.asarray(norm.moving_mean) == pytest.approx(0.1 * mean, rel=1e-5)
    assert np.asarray(norm.moving_variance) == pytest.approx(0.9 + 0.1 * variance * count / (count - 1), rel=1e-5)


def test_the_fused_pass_is_keras_own():
    ours, keras_own = BatchNorm(epsilon=1e-5), keras.layers.BatchNormalization(epsilon=1e-5)
    assert np.asarray(ours(X, training=True)) == pytest.approx(np.asarray(keras_own(X, training=True)), abs=1e-5)
    keras_own.set_weights(ours.get_weights())
    assert np.array_equal(ours(X, training=False), keras_own(X, training=False))


def test_a_synchronised_pass_keeps_its_digits_where_the_mean_is_large():
    x = np.random.default_rng(5).normal(300, 1, (8, 5, 5, 4)).astype(np.float32)
    norm, fused = BatchNorm(synchronized=True), BatchNorm()
    exact = x.astype(np.float64)
    y = np.asarray(norm(x, training=True))
    variance = exact.var((0, 1, 2))
    assert y == pytest.approx((exact - exact.mean((0, 1, 2))) / np.sqrt(variance + 1e-3), abs=2e-4)
    assert np.asarray(norm.moving_variance) == pytest.approx(0.99 + 0.01 * variance * 200 / 199, abs=1e-6)
    assert y == pytest.approx(np.asarray(fused(x, training=True)), abs=2e-4)


def test_moments_of_parts_are_those_of_the_batch():
    x = np.random.default_rng(6).normal(300, 1, (7, 50, 4))
    parts = [x[:4], x[4:6], x[6:]]
    rows = [[np.full(4, part[..., 0].size), part.mean((0, 1)), part.var((0, 1))] for part in parts]
    count, mean, variance = pooled(np.array([*rows, np.zeros((3, 4))], np.float32))  # the last replica has no images
    assert np.asarray(count) == pytest.approx(350)
    assert np.asarray(mean) == pytest.approx(x.mean((0, 1)), rel=1e-6)
    assert np.asarray(variance) == pytest.approx(x.var((0, 1)), rel=1e-4)


@pytest.mark.parametrize("dilation", [2, 6])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_a_dilated_convolution_is_keras_own(dilation, padding):
    x = tf.constant(np.random.default_rng(2).normal(size=(2, 13, 15, 4)).astype(np.float32))
    options = {"dilation_rate": dilation, "padding": padding, "bias_initializer": "normal"}
    ours, keras_own = DilatedConvolution(5, 3, **options), keras.layers.Conv2D(5, 3, **options)
    ours.build(x.shape), keras_own.build(x.shape)
    keras_own.set_weights(ours.get_weights())
    result = []
    for layer in (ours, keras_own):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True) if layer is ours else layer(x)
            loss = tf.reduce_sum(y**2)
        result.append([y, *tape.gradient(loss, [x, *layer.trainable_variables])])
    for mine, other in zip(*result, strict=True):
        assert np.asarray(mine) == pytest.approx(np.asarray(other), rel=1e-4, abs=1e-3)
    assert np.asarray(ours(x)) == pytest.approx(np.asarray(keras_own(x)), abs=1e-4)


def test_a_dilated_convolution_takes_maps_of_any_size():
    image = keras.Input((None, None, 4))
    model = keras.Model(image, convolution(image, 3, 3, "conv", dilation_rate=12))
    answer = tf.function(lambda x: model(x), reduce_retracing=True, autograph=False)
    for sides in ((3, 3), (2, 3), (5, 7), (30, 2)):
        x = np.random.default_rng(4).normal(size=(1, *sides, 4)).astype(np.float32)
        assert answer(x).numpy() == pytest.approx(model(x).numpy(), abs=1e-5)


@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (3, 2), (5, 2)])
def test_a_convolution_pads_the_same_on_every_side(kernel, stride):
    image = keras.Input((8, 8, 4))
    model = keras.Model(image, convolution(image, 6, kernel, "conv", stride))
    x = np.random.default_rng(1).normal(size=(2, 8, 8, 4)).astype(np.float32)
    rim = (kernel - 1) // 2
    padded = np.pad(x, ((0, 0), (rim, rim), (rim, rim), (0, 0)))
    weights = np.asarray(model.get_layer("conv").kernel)
    result = model.predict(x, verbose=0)
    for i in range(result.shape[1]):
        for j in range(result.shape[2]):
            patch = padded[:, i * stride : i * stride + kernel, j * stride : j * stride + kernel]
            assert result[:, i, j] == pytest.approx(np.einsum("bhwc,hwco->bo", patch, weights), abs=1e-4)


def test_a_convolution_starts_with_the_published_deviation():
    image = keras.Input((8, 8, 64))
    kernel = keras.Model(image, convolution(image, 256, 3, "conv")).get_layer("conv").kernel
    assert np.std(kernel) == pytest.approx(np.sqrt(2 / (9 * 256)), rel=0.02)
    assert np.abs(kernel).max() > 3 * np.std(kernel), "not truncated"


def test_pixels_are_normalised_inside_whatever_their_type():
    layer = Normalise(Normalisation().mean, Normalisation().std)
    pixels = np.random.default_rng(2).integers(0, 256, (2, 3, 3, 3)).astype(np.uint8)
    expected = (pixels / 255 - Normalisation().mean) / Normalisation().std
    assert np.asarray(layer(pixels)) == pytest.approx(expected, abs=1e-5)
    assert np.asarray(layer(pixels.astype(np.float32))) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("activation", [None, "relu"])
def test_a_convolution_of_one_pixel_answers_in_training_as_it_does_after(activation):
    layer = Pointwise(6, 1, activation=activation, bias_initializer="random_normal")
    assert np.asarray(layer(X, training=True)) == pytest.approx(np.asarray(layer(X, training=False)), abs=1e-5)


@pytest.mark.parametrize(("groups", "stride"), [(2, 1), (4, 2), (8, 1)])
def test_a_grouped_convolution_is_one_of_each_group(groups, stride):
    x = np.random.default_rng(3).normal(size=(2, 6, 6, 8)).astype(np.float32)
    layer = GroupedConvolution(16, 3, strides=stride, padding="same", groups=groups)
    y, kernel = np.asarray(layer(x)), np.asarray(layer.kernel)
    for g, (part, own) in enumerate(zip(np.split(x, groups, -1), np.split(kernel, groups, -1), strict=True)):
        single = keras.layers.Conv2D(16 // groups, 3, strides=stride, padding="same", use_bias=False)
        single.build(part.shape)
        single.kernel.assign(own)
        assert y[..., g * 16 // groups : (g + 1) * 16 // groups] == pytest.approx(np.asarray(single(part)), abs=1e-5)


def test_a_grouped_convolution_is_keras_own_forward_and_backward():
    x = tf.constant(np.random.default_rng(4).normal(size=(2, 5, 5, 8)).astype(np.float32))
    ours = GroupedConvolution(8, 3, padding="same", groups=4)
    theirs = keras.layers.Conv2D(8, 3, padding="same", groups=4)
    gradients = []
    for layer in (ours, theirs):
        layer.build(x.shape)
        layer.set_weights(ours.get_weights())
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(layer(x) ** 2)
        gradients.append(tape.gradient(loss, [x, layer.kernel]))
    for own, keras_own in zip(*gradients, strict=True):
        assert np.asarray(own) == pytest.approx(np.asarray(keras_own), rel=1e-4, abs=1e-4)


def test_no_xla_is_traced_into_a_grouped_convolution():
    graph = tf.function(GroupedConvolution(8, 3, groups=4)).get_concrete_function(tf.TensorSpec((None, 5, 5, 8)))
    definition = graph.graph.as_graph_def()
    assert not list(definition.library.function)
    assert sum(node.op == "Conv2D" for node in definition.node) == 1


def test_a_gamma_says_whether_weight_decay_takes_it():
    for decays in (True, False):
        norm = BatchNorm(decay_gamma=decays)
        norm.build((None, 4))
        assert norm.gamma.decays is decays
        assert BatchNorm.from_config(norm.get_config()).decay_gamma is decays


def _pulled(layer, x, repeats: int):
    """Outputs and gradients [repeats, ...] of a layer in training."""

    @tf.function
    def pull():
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
        return y, tape.gradient(y, x)

    outputs, gradients = zip(*(pull() for _ in range(repeats)), strict=True)
    return np.stack(outputs), np.stack(gradients)


def _uniform(values: np.ndarray, low: float, high: float) -> bool:
    """Largest distance between the empirical distribution and U(low, high), at the 0.1 % level of Kolmogorov."""
    ranks = np.arange(1, values.size + 1) / values.size
    distance = np.abs(np.sort((values.ravel() - low) / (high - low)) - ranks).max()
    return distance < 1.95 / np.sqrt(values.size)


def test_shake_drop_passes_or_shakes_the_whole_batch_and_its_gradient():
    keras.utils.set_random_seed(5)
    x = tf.ones((16, 2, 2, 3))
    outputs, gradients = _pulled(ShakeDrop(0.4), x, 400)
    assert (np.ptp(outputs, axis=(2, 3, 4)) < 1e-6).all(), "one factor per sample"
    forward, backward = outputs[:, :, 0, 0, 0], gradients[:, :, 0, 0, 0]
    passed = np.isclose(forward, 1, atol=1e-6).all(axis=1)
    assert abs(passed.mean() - 0.6) < 4 * np.sqrt(0.24 / 400)
    assert (backward[passed] == 1).all()
    assert _uniform(forward[~passed], -1, 1) and _uniform(backward[~passed], 0, 1)
    assert abs(np.corrcoef(forward[~passed].ravel(), backward[~passed].ravel())[0, 1]) < 0.08
    assert np.asarray(ShakeDrop(0.4)(x)) == pytest.approx(0.6)


def test_shake_shake_mixes_by_one_number_forward_and_another_backward():
    keras.utils.set_random_seed(6)
    layer = ShakeShake()
    first, second = tf.fill((16, 2, 2, 3), 3.0), tf.fill((16, 2, 2, 3), 1.0)

    @tf.function
    def pull():
        with tf.GradientTape() as tape:
            tape.watch([first, second])
            y = layer([first, second], training=True)
        return (y[:, 0, 0, 0] - 1) / 2, tf.stack([g[:, 0, 0, 0] for g in tape.gradient(y, [first, second])])

    mixes, pulls = map(np.stack, zip(*(pull() for _ in range(300)), strict=True))  # [300, 16], [300, 2, 16]
    assert _uniform(mixes, 0, 1) and _uniform(pulls[:, 0], 0, 1)
    assert pulls.sum(axis=1) == pytest.approx(1, abs=1e-6)
    assert abs(np.corrcoef(mixes.ravel(), pulls[:, 0].ravel())[0, 1]) < 0.08
    assert np.asarray(layer([first, second])) == pytest.approx(2)


def test_drop_path_drops_samples_one_by_one_and_keeps_the_mean():
    keras.utils.set_random_seed(7)
    outputs, gradients = _pulled(DropPath(0.25), tf.ones((32, 2, 2, 3)), 200)
    assert np.isin(outputs, np.float32([0, 1 / 0.75])).all() and np.array_equal(outputs, gradients)
    assert (np.ptp(outputs, axis=(2, 3, 4)) == 0).all() and np.ptp(outputs, axis=1).any()
    assert outputs.mean() == pytest.approx(1, abs=4 * np.sqrt(1 / 3 / 6400))
    assert np.array_equal(DropPath(0.25)(X), X)


def test_drop_block_drops_whole_squares_at_its_rate():
    keras.utils.set_random_seed(8)
    outputs, _ = _pulled(DropBlock(0.1, 3), tf.ones((16, 14, 14, 8)), 20)
    dropped = outputs == 0
    assert dropped.mean() == pytest.approx(0.1, abs=0.012), "squares that overlap drop a little less"
    assert outputs.mean(axis=(1, 2, 3, 4)) == pytest.approx(1, abs=1e-4)
    shifts = [(i, j) for i in range(3) for j in range(3)]
    squares = np.logical_and.reduce([dropped[:, :, i : i + 12, j : j + 12] for i, j in shifts])
    covered = np.zeros_like(dropped)
    for i, j in shifts:
        covered[:, :, i : i + 12, j : j + 12] |= squares
    assert np.array_equal(covered, dropped), "whatever is dropped is a union of whole squares"
    assert np.array_equal(DropBlock(0.1, 3)(X), X)


def test_split_attention_weighs_each_channel_of_the_halves_against_its_twin():
    draw = np.random.default_rng(9)
    x, scores = draw.normal(size=(2, 3, 3, 8)), draw.normal(size=(2, 1, 1, 8))
    result = np.asarray(WeighedHalves(2)([x.astype(np.float32), scores.astype(np.float32)]))
    scores = scores.reshape(2, 2, 2, 2)  # [B, groups, radix, m / groups]
    for group in range(2):
        for c in range(2):
            pair = np.exp(scores[:, group, :, c])
            weight = (pair / pair.sum(axis=1, keepdims=True))[:, :, None, None]
            channel = 2 * group + c
            mixed = weight[:, 0] * x[..., channel] + weight[:, 1] * x[..., 4 + channel]
            assert result[..., channel] == pytest.approx(mixed, abs=1e-6)


def test_squeezed_widths_leave_whole_groups():
    assert [squeezed(64, 4), squeezed(256, 4), squeezed(60, 3)] == [32, 128, 33]
