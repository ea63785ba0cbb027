import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from dico_tf.views import operations

FILL = (125.0, 60.0, 200.0)
COLOUR = (125, 60, 200)
RANDOM = np.random.default_rng(0)


def _pictures():
    """Noise, a smooth picture of few levels, a plain one, and two-coloured ones, [6, 24, 32, 3]."""
    noise = RANDOM.integers(0, 256, (24, 32, 3))
    y, x = np.mgrid[:24, :32]
    smooth = np.stack([5 * y + 60, 4 * x + 30, 3 * (x + y) + 10], -1)
    plain = np.full((24, 32, 3), 77)
    two = np.where((x < 5)[..., None], 0, 255) * np.ones(3, int)
    black = np.zeros((24, 32, 3))
    dark = RANDOM.integers(40, 90, (24, 32, 3))
    return np.stack([noise, smooth, plain, two, black, dark]).astype(np.uint8)


PICTURES = _pictures()


def ours(name, value):
    images = tf.constant(PICTURES, tf.float32)
    number = tf.fill([len(images)], operations.NAMES.index(name))
    return operations.apply(images, number, tf.fill([len(images)], float(value)), FILL).numpy()


def pil(function):
    return np.stack([np.asarray(function(Image.fromarray(picture))) for picture in PICTURES]).astype(np.float32)


def affine(*matrix):
    return lambda p: p.transform(p.size, Image.AFFINE, matrix, resample=Image.BILINEAR, fillcolor=COLOUR)


def solarize_add(addition):
    return lambda p: p.point([min(i + addition, 255) if i < 128 else i for i in range(256)] * 3)


POINTWISE = [
    ("identity", 0, lambda p: p, 0),
    ("autocontrast", 0, ImageOps.autocontrast, 1),  # PIL cuts the fraction off
    ("equalize", 0, ImageOps.equalize, 0),
    ("invert", 0, ImageOps.invert, 0),
    *[("posterize", bits, lambda p, b=bits: ImageOps.posterize(p, b), 0) for bits in (1, 4, 7, 8)],
    *[("solarize", t, lambda p, t=t: ImageOps.solarize(p, t), 0) for t in (0, 100, 256)],
    *[("solarize_add", a, solarize_add(a), 0) for a in (0, 55, 110)],
    *[("colour", f, lambda p, f=f: ImageEnhance.Color(p).enhance(f), 1.6) for f in (0.1, 1.0, 1.9)],
    *[("contrast", f, lambda p, f=f: ImageEnhance.Contrast(p).enhance(f), 1.6) for f in (0.1, 1.0, 1.9)],
    *[("brightness", f, lambda p, f=f: ImageEnhance.Brightness(p).enhance(f), 1) for f in (0.1, 1.0, 1.9)],
    *[("sharpness", f, lambda p, f=f: ImageEnhance.Sharpness(p).enhance(f), 1.6) for f in (0.1, 1.0, 1.9)],
]


@pytest.mark.parametrize("name, value, function, tolerance", POINTWISE, ids=[f"{n} {v}" for n, v, *_ in POINTWISE])
def test_operation_does_what_pil_does(name, value, function, tolerance):
    np.testing.assert_allclose(ours(name, value), pil(function), rtol=0, atol=tolerance + 1e-3)


GEOMETRIC = [
    *[("rotate", d, lambda p, d=d: p.rotate(d, Image.BILINEAR, fillcolor=COLOUR)) for d in (-30, 12, 30)],
    *[("shear_x", s, affine(1, s, 0, 0, 1, 0)) for s in (-0.3, 0.2)],
    *[("shear_y", s, affine(1, 0, 0, s, 1, 0)) for s in (-0.3, 0.2)],
    *[("translate_x", t, affine(1, 0, 32 * t, 0, 1, 0)) for t in (-0.45, 0.1)],
    *[("translate_y", t, affine(1, 0, 0, 0, 1, 24 * t)) for t in (-0.45, 0.1)],
]


@pytest.mark.parametrize("name, value, function", GEOMETRIC, ids=[f"{n} {v}" for n, v, _ in GEOMETRIC])
def test_geometric_operation_does_what_pil_does(name, value, function):
    # PIL cuts the picture off sharply where we fade into the fill colour over one pixel: that rim is left out
    inner = np.zeros((24, 32, 3), np.uint8)
    inner[1:-1, 1:-1] = 255
    clear = np.asarray(function(Image.fromarray(inner))).min(-1) == 255
    got, want = ours(name, value), pil(function)
    assert clear.mean() > 0.25
    np.testing.assert_allclose(got[:, clear], want[:, clear], rtol=0, atol=2.1)
    beyond = (np.abs(got - FILL).max(-1) < 1e-3).all(0)
    assert beyond.any() and (want[:, beyond] == FILL).all()


def test_geometric_operations_that_move_whole_pixels_are_exact():
    got, want = ours("translate_x", 0.125), pil(affine(1, 0, 4, 0, 1, 0))
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-3)


def test_a_mixed_batch_is_done_image_by_image():
    images = tf.constant(RANDOM.integers(0, 256, (60, 16, 16, 3)), tf.float32)
    number = tf.constant(RANDOM.integers(0, len(operations.NAMES), 60), tf.int32)
    value = tf.constant(RANDOM.uniform(0.2, 1.4, 60), tf.float32)
    whole = operations.apply(images, number, value, FILL)
    alone = [operations.apply(images[i : i + 1], number[i : i + 1], value[i : i + 1], FILL) for i in range(60)]
    np.testing.assert_allclose(whole, tf.concat(alone, 0), rtol=0, atol=1e-3)


def test_an_operation_drawn_by_no_image_and_an_empty_batch_do_no_harm():
    empty = operations.apply(tf.zeros([0, 8, 8, 3]), tf.zeros([0], tf.int32), tf.zeros([0]), FILL)
    assert empty.shape == (0, 8, 8, 3)


@pytest.mark.parametrize("name", operations.NAMES)
def test_operation_keeps_pixels_in_range(name):
    for value in (0.0, 0.3, 1.9, 8.0):
        got = ours(name, value)
        assert np.isfinite(got).all() and got.min() >= -1e-3 and got.max() <= 255 + 1e-3
