"""Image operations on float32 [B, H, W, 3] in 0..255, one value per image, as PIL defines them.

`apply` sorts a batch by operation, runs every operation once on its group, and puts the images back in order.
"""

import math
from collections.abc import Callable, Sequence

import tensorflow as tf

from dico_tf.views import keras_cv_operations as kcv

Fill = Sequence[float]  # colour of what comes into the picture from outside, 0..255 per channel
Group = Callable[[tf.Tensor, tf.Tensor, tf.Tensor, Fill], tf.Tensor]  # images [G, H, W, 3], value, number [G] -> images


def _blend(degenerate: tf.Tensor, images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """d + factor (x - d), clipped."""
    return tf.clip_by_value(degenerate + factor[:, None, None, None] * (images - degenerate), 0.0, 255.0)


def contrast(images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """m + factor (x - m), m the mean grey of the image in whole levels (keras-cv: each channel's own mean)."""
    grey = _over_pixels(tf.reduce_mean, images) @ tf.constant([[0.299], [0.587], [0.114]])  # [G, 1]
    return _blend(tf.floor(grey + 0.5)[:, :, None, None], images, factor)


def autocontrast(images: tf.Tensor) -> tf.Tensor:
    """255 (x - min) / (max - min), each image and channel by itself (keras-cv: the same, 2.5 times slower)."""
    low, high = (_over_pixels(reduce, images)[:, None, None] for reduce in (tf.reduce_min, tf.reduce_max))
    plain = high <= low
    scale = 255.0 / tf.where(plain, 255.0, high - low)
    return images * scale - tf.where(plain, 0.0, low * scale)


def sharpness(images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """s + factor (x - s), s = x smoothed by (1 1 1, 1 5 1, 1 1 1) / 13 but at the rim (keras-cv: half as fast)."""
    rows = images[:, :-2] + images[:, 1:-1] + images[:, 2:]
    inner = images[:, 1:-1, 1:-1]
    smooth = (rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:] + 4.0 * inner) / 13.0
    change = tf.pad(smooth - inner, [[0, 0], [1, 1], [1, 1], [0, 0]])
    return tf.clip_by_value(images + (1.0 - factor)[:, None, None, None] * change, 0.0, 255.0)


def _over_pixels(reduce: Callable[..., tf.Tensor], images: tf.Tensor) -> tf.Tensor:
    """[G, 3]; in two steps, of which the first runs along the memory: twice as fast."""
    return reduce(reduce(images, axis=1), axis=1)


def brightness(images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """factor x (keras-cv adds instead)."""
    return _blend(tf.zeros([1, 1, 1, 1]), images, factor)


def posterize(images: tf.Tensor, bits: tf.Tensor) -> tf.Tensor:
    """The highest `bits` of the 8 bits of each value; 0 bits are black (keras-cv: one image at a time, bits fixed)."""
    step = tf.pow(2.0, 8.0 - bits)[:, None, None, None]
    return tf.floor(tf.round(images) / step) * step


def solarize_add(images: tf.Tensor, addition: tf.Tensor) -> tf.Tensor:
    """min(x + addition, 255) below 128 (keras-cv adds everywhere, then inverts)."""
    return tf.where(images < 128.0, tf.minimum(images + addition[:, None, None, None], 255.0), images)


def equalize(images: tf.Tensor) -> tf.Tensor:
    """Each channel through (count of lower values + step // 2) // step, step = (pixels - count of the highest) // 255.

    keras-cv takes the rarest value where PIL takes the highest, and needs AutoGraph.
    """
    shape = tf.shape(images)
    planes = shape[0] * 3
    # the histograms of all planes [3G, 256] lie in one row: plane p owns bins 256 p .. 256 p + 255
    levels = tf.cast(tf.round(tf.clip_by_value(images, 0.0, 255.0)), tf.int32)
    bins = levels + 256 * tf.reshape(tf.range(planes), [-1, 1, 1, 3])
    flat = tf.reshape(bins, [-1])
    counts = tf.reshape(tf.math.bincount(flat, minlength=256 * planes, maxlength=256 * planes), [-1, 256])
    lower = tf.cumsum(counts, axis=1, exclusive=True)
    step = tf.reduce_max(tf.where(counts > 0, lower, 0), axis=1, keepdims=True) // 255
    table = tf.minimum((lower + step // 2) // tf.maximum(step, 1), 255)
    table = tf.where(step > 0, table, tf.range(256))
    return tf.reshape(tf.gather(tf.reshape(tf.cast(table, tf.float32), [-1]), flat), shape)


def project(images: tf.Tensor, matrices: tf.Tensor, fill: Fill | None) -> tf.Tensor:
    """Bilinear: output pixel (x, y) shows input (a x + b y + c, d x + e y + f); matrices [B, 6] = a .. f.

    Outside lies the fill colour, or the nearest edge if there is none.
    """
    # the op knows one fill for all channels, 0 here: so the colour is moved to 0 and back
    origin = tf.constant(fill if fill is not None else (0.0, 0.0, 0.0), tf.float32)
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=images - origin,
        transforms=tf.concat([matrices, tf.zeros_like(matrices[:, :2])], axis=1),
        output_shape=tf.shape(images)[1:3],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT" if fill is not None else "NEAREST",
    )
    return tf.ensure_shape(moved + origin, images.shape)


def _centred(a: tf.Tensor, b: tf.Tensor, d: tf.Tensor, e: tf.Tensor, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """[B, 6] of the map (a b; d e) that keeps the point (x, y) of pixel coordinates where it is."""
    return tf.stack([a, b, x - a * x - b * y, d, e, y - d * x - e * y], axis=1)


def rotation(degrees: tf.Tensor, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """Counter-clockwise around the middle."""
    cos, sin = tf.cos(degrees * (math.pi / 180)), tf.sin(degrees * (math.pi / 180))
    return _centred(cos, -sin, sin, cos, (width - 1) / 2, (height - 1) / 2)


def shear(along_x: tf.Tensor, along_y: tf.Tensor) -> tf.Tensor:
    """x + s y and y + s x, around the picture's upper left corner, which is (-1/2, -1/2) in pixel coordinates."""
    one = tf.ones_like(along_x)
    return _centred(one, along_x, along_y, one, -0.5, -0.5)


def translation(right: tf.Tensor, down: tf.Tensor) -> tf.Tensor:
    """Reads `right` and `down` pixels further (PIL's sign: the picture moves left and up)."""
    zero, one = tf.zeros_like(right), tf.ones_like(right)
    return tf.stack([one, zero, right, zero, one, down], axis=1)


def _geometric(images: tf.Tensor, value: tf.Tensor, number: tf.Tensor, fill: Fill) -> tf.Tensor:
    """Rotation, shears and translations in one transform, each image with its own matrix."""
    height, width = tf.unstack(tf.cast(tf.shape(images)[1:3], tf.float32))
    zero = tf.zeros_like(value)
    choices = tf.stack(
        [
            rotation(value, height, width),
            shear(value, zero),
            shear(zero, value),
            translation(value * width, zero),
            translation(zero, value * height),
        ],
        axis=1,
    )
    return project(images, tf.gather(choices, number, batch_dims=1), fill)


def _tone(images: tf.Tensor, value: tf.Tensor, number: tf.Tensor, fill: Fill) -> tf.Tensor:
    """Solarize and invert, which is to solarize from 0."""
    return kcv.solarize(images, tf.where(number == 0, value, 0.0))


GEOMETRIC = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")  # they move pixels, to either side

# Groups that run as one: their operations' names, and group(images, value, number within the group, fill).
# What a value means: degrees; shear; share of the side; threshold; addition; bits kept; factor (1 = unchanged).
_GROUPS: tuple[tuple[tuple[str, ...], Group], ...] = (
    (("identity",), lambda images, value, number, fill: images),
    (GEOMETRIC, _geometric),
    (("solarize", "invert"), _tone),
    (("solarize_add",), lambda images, value, number, fill: solarize_add(images, value)),
    (("posterize",), lambda images, value, number, fill: posterize(images, value)),
    (("colour",), lambda images, value, number, fill: kcv.colour(images, value)),
    (("contrast",), lambda images, value, number, fill: contrast(images, value)),
    (("brightness",), lambda images, value, number, fill: brightness(images, value)),
    (("sharpness",), lambda images, value, number, fill: sharpness(images, value)),
    (("autocontrast",), lambda images, value, number, fill: autocontrast(images)),
    (("equalize",), lambda images, value, number, fill: equalize(images)),
)
NAMES: tuple[str, ...] = tuple(name for names, _ in _GROUPS for name in names)
_GROUP_OF = [group for group, (names, _) in enumerate(_GROUPS) for _ in names]
_NUMBER_OF = [number for names, _ in _GROUPS for number in range(len(names))]


def apply(images: tf.Tensor, operation: tf.Tensor, value: tf.Tensor, fill: Fill) -> tf.Tensor:
    """Each image through the operation NAMES[operation[b]] with its value[b]."""
    number = tf.gather(tf.constant(_NUMBER_OF), operation)
    runs = [lambda mine, *rest, run=run: run(mine, *rest, fill) for _, run in _GROUPS]
    return sorted_by(tf.gather(tf.constant(_GROUP_OF), operation), runs, images, value, number)


def sorted_by(group: tf.Tensor, runs: Sequence[Callable[..., tf.Tensor]], images: tf.Tensor, *rest: tf.Tensor):
    """runs[group[b]](image b, rest b ...), each run once, on all of its images [G, H, W, 3] together."""
    places = tf.dynamic_partition(tf.range(tf.shape(images)[0]), group, len(runs))
    done = [_on_group(run, place, images, *rest) for place, run in zip(places, runs, strict=True)]
    out = tf.dynamic_stitch(places, done)
    return tf.ensure_shape(tf.reshape(out, tf.shape(images)), images.shape)


def _on_group(run: Callable[..., tf.Tensor], place: tf.Tensor, images: tf.Tensor, *rest: tf.Tensor) -> tf.Tensor:
    """Runs on the images at `place`; not at all where there are none, which some ops cannot bear."""
    mine = tf.gather(images, place)
    return tf.cond(tf.size(place) > 0, lambda: run(mine, *(tf.gather(r, place) for r in rest)), lambda: mine)
