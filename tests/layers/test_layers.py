"""Layers against the formulas they are documented with."""

import keras
import numpy as np
import pytest

from dico_tf.layers.convolution import convolution
from dico_tf.layers.image import Normalisation, Normalise
from dico_tf.layers.normalisation import BatchNorm

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


@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (3, 2), (5, 2)])
def test_a_convolution_pads_the_same_on_every_side(kernel, stride):
    image = keras.Input((8, 8, 4))
    model = keras.Model(image, convolution(image, 6, kernel, "conv", stride))
    x = np.random.default_rng(1).normal(size=(2, 8, 8, 4)).astype(np.float32)
    rim = (kernel - 1) // 2
    padded = np.pad(x, ((0, 0), (rim, rim), (rim, rim), (0, 0)))
    weights = np.asarray(model.get_layer("conv").kernel)
    found = model.predict(x, verbose=0)
    for i in range(found.shape[1]):
        for j in range(found.shape[2]):
            patch = padded[:, i * stride : i * stride + kernel, j * stride : j * stride + kernel]
            assert found[:, i, j] == pytest.approx(np.einsum("bhwc,hwco->bo", patch, weights), abs=1e-4)


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
