"""Sliding-window inference against a loop in NumPy."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from dico_tf.cotrain.sliding_inference import Windowed, as_large
from dico_tf.evaluation.segmentation import enlarged
from dico_tf.models import segmentation

WINDOW, STRIDE, FILL = 16, 4, (10.0, 20.0, 30.0)
DRAW = np.random.default_rng(0)


@pytest.fixture(scope="module")
def coarse():
    """A network whose answer depends on the position in the window."""
    image = keras.Input((WINDOW, WINDOW, 3))
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.Conv2D(3, 7, STRIDE, padding="same", kernel_initializer=keras.initializers.RandomNormal(seed=1))(x)
    return keras.Model(image, x)


def by_hand(coarse, images: np.ndarray) -> np.ndarray:
    """Return the mean of all windows' logits at each place, for the given starts."""
    sides = [max(-(-side // STRIDE) * STRIDE, WINDOW) for side in images.shape[1:3]]
    framed = np.broadcast_to(np.float32(FILL), (len(images), *sides, 3)).copy()
    framed[:, : images.shape[1], : images.shape[2]] = images
    starts = [sorted({*range(0, side - WINDOW, WINDOW // 2), side - WINDOW}) for side in sides]
    total = np.zeros((len(images), *(side // STRIDE for side in sides), 3))
    seen = np.zeros(total.shape[1:3])
    for y, x in itertools.product(*starts):
        there = np.s_[y // STRIDE : (y + WINDOW) // STRIDE, x // STRIDE : (x + WINDOW) // STRIDE]
        total[:, *there] += coarse(framed[:, y : y + WINDOW, x : x + WINDOW])
        seen[there] += 1
    height, width = (-(-side // STRIDE) for side in images.shape[1:3])
    return (total / seen[..., None])[:, :height, :width]


@pytest.mark.slow
@pytest.mark.parametrize("sides", [(16, 16), (16, 24), (40, 28), (9, 50), (3, 5), (33, 17)])
def test_logits_are_the_means_of_the_windows_that_see_a_place(coarse, sides):
    images = DRAW.integers(0, 256, (2, *sides, 3)).astype(np.uint8)
    windowed = Windowed(coarse, WINDOW, STRIDE, FILL)
    expected = by_hand(coarse, images)
    assert np.asarray(windowed(images)) == pytest.approx(expected, abs=1e-5)
    open_sizes = tf.function(windowed, input_signature=[tf.TensorSpec((None, None, None, 3))], autograph=False)
    assert open_sizes(images.astype(np.float32)).numpy() == pytest.approx(expected, abs=1e-5)


def test_answers_are_as_large_as_pictures_that_no_stride_divides(coarse):
    images = DRAW.integers(0, 256, (1, 33, 18, 3)).astype(np.float32)
    windowed = Windowed(coarse, WINDOW, STRIDE, FILL)
    large = enlarged(by_hand(coarse, images), (36, 20))[:, :33, :18]
    assert as_large(windowed)(images).numpy() == pytest.approx(large, abs=1e-5)


def test_windows_are_counted_and_lie_at_multiples_of_the_stride():
    counts = {(16, 16): 1, (5, 16): 1, (17, 16): 2, (24, 16): 2, (25, 48): 15}
    assert {sides: segmentation.count_windows(sides, 16, 4) for sides in counts} == counts
    assert [segmentation.window_step(*sizes) for sizes in ((16, 4), (12, 4), (20, 16))] == [8, 4, 16]
