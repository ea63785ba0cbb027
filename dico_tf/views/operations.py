"""Image operations on float32 [B, H, W, 3] in 0..255, as PIL defines them, with one operation and value per image.

`apply` groups a batch by operation, runs every operation once on its group, and restores the order of the images.
"""

import math
from collections.abc import Callable, Sequence

import tensorflow as tf

from dico_tf.views import keras_cv_operations as kcv

Fill = Sequence[float]  # colour of pixels from outside of the image, 0..255 per channel
Group = Callable[[tf.Tensor, tf.Tensor, tf.Tensor, Fill], tf.Tensor]  # images [G, H, W, 3], value, number [G] -> images


def _blend(degenerate: tf.Tensor, images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Return d + factor (x - d), clipped to 0..255, with the degenerate image d and a factor [G] for each image."""
    return tf.clip_by_value(degenerate + factor[:, None, None, None] * (images - degenerate), 0.0, 255.0)


def contrast(images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Return m + factor (x - m), clipped to 0..255; m is the image's mean grey, rounded to a whole number.

    keras-cv takes each channel's own mean.
    """
    grey = _over_pixels(tf.reduce_mean, images) @ tf.constant([[0.299], [0.587], [0.114]])  # [G, 1]
    return _blend(tf.floor(grey + 0.5)[:, :, None, None], images, factor)


def autocontrast(images: tf.Tensor) -> tf.Tensor:
    """Return 255 (x - min) / (max - min) for each channel of each image; a channel of one value stays as it is.

    keras-cv computes the same and takes 2.5 times as long.
    """
    low, high = (_over_pixels(reduce, images)[:, None, None] for reduce in (tf.reduce_min, tf.reduce_max))
    plain = high <= low
    scale = 255.0 / tf.where(plain, 255.0, high - low)
    return images * scale - tf.where(plain, 0.0, low * scale)


def sharpness(images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Return s + factor (x - s), clipped to 0..255; s is x smoothed by (1 1 1, 1 5 1, 1 1 1) / 13.

    The outermost pixels are not smoothed. keras-cv takes up to twice as long.
    """
    rows = images[:, :-2] + images[:, 1:-1] + images[:, 2:]
    inner = images[:, 1:-1, 1:-1]
    smooth = (rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:] + 4.0 * inner) / 13.0
    change = tf.pad(smooth - inner, [[0, 0], [1, 1], [1, 1], [0, 0]])
    return tf.clip_by_value(images + (1.0 - factor)[:, None, None, None] * change, 0.0, 255.0)


def _over_pixels(reduce: Callable[..., tf.Tensor], images: tf.Tensor) -> tf.Tensor:
    """Reduce [G, H, W, 3] to [G, 3] by a mean, minimum or maximum, first over rows: twice as fast as both at once."""
    return reduce(reduce(images, axis=1), axis=1)


def brightness(images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Multiply each image by its factor [G] and clip to 0..255 (keras-cv adds instead)."""
    return _blend(tf.zeros([1, 1, 1, 1]), images, factor)


def posterize(images: tf.Tensor, bits: tf.Tensor) -> tf.Tensor:
    """Round each value, keep the highest `bits` of its 8 bits and clear the others; 0 bits give black.

    keras-cv has one number of bits for all images.
    """
    step = tf.pow(2.0, 8.0 - bits)[:, None, None, None]
    return tf.floor(tf.round(images) / step) * step


def solarize_add(images: tf.Tensor, addition: tf.Tensor) -> tf.Tensor:
    """Return min(x + addition, 255) for values below 128, else x (keras-cv adds everywhere, then inverts)."""
    return tf.where(images < 128.0, tf.minimum(images + addition[:, None, None, None], 255.0), images)


def equalize(images: tf.Tensor) -> tf.Tensor:
    """Round the values and equalize the histogram of each channel of each image, as PIL does.

    A value becomes min((number of pixels with lower values + step // 2) // step, 255), where step is
    (number of pixels - number of pixels with the highest value) // 255. If step is 0, values are only rounded.
    To compute step, keras-cv leaves out the rarest value instead of the highest; it also needs AutoGraph.
    """
    shape = tf.shape(images)
    planes = shape[0] * 3
    # the histograms of all planes [3G, 256] are one vector: plane p has the bins 256 p .. 256 p + 255
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
    """Transform images, bilinear: output pixel (x, y) shows input (a x + b y + c, d x + e y + f).

    Args:
        matrices: [B, 6], a .. f.
        fill: colour outside of the image; None repeats the nearest edge.
    """
    # the op has one fill value for all channels, 0 here: so the fill colour is subtracted and added again
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
    """Return matrices [B, 6] for `project` of the linear map (a b; d e) that leaves the point (x, y) in place."""
    return tf.stack([a, b, x - a * x - b * y, d, e, y - d * x - e * y], axis=1)


def rotation(degrees: tf.Tensor, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """Return matrices [B, 6] for `project` that rotate images by degrees [B], counter-clockwise around the middle."""
    cos, sin = tf.cos(degrees * (math.pi / 180)), tf.sin(degrees * (math.pi / 180))
    return _centred(cos, -sin, sin, cos, (width - 1) / 2, (height - 1) / 2)


def shear(along_x: tf.Tensor, along_y: tf.Tensor) -> tf.Tensor:
    """Return matrices [B, 6] for `project`: output (x, y) shows input (x + along_x y, along_y x + y).

    Here x and y are counted from the upper left corner of the image, not from the middle of its first pixel.
    """
    one = tf.ones_like(along_x)
    return _centred(one, along_x, along_y, one, -0.5, -0.5)


def translation(right: tf.Tensor, down: tf.Tensor) -> tf.Tensor:
    """Return matrices [B, 6] for `project`: output (x, y) shows input (x + right, y + down).

    Positive values therefore move the image left and up.
    """
    zero, one = tf.zeros_like(right), tf.ones_like(right)
    return tf.stack([one, zero, right, zero, one, down], axis=1)


def _geometric(images: tf.Tensor, value: tf.Tensor, number: tf.Tensor, fill: Fill) -> tf.Tensor:
    """Apply operation GEOMETRIC[number] with its value to each image, by one transform with a matrix per image."""
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
    """Solarize from `value` if `number` is 0, else invert, which is to solarize from 0."""
    return kcv.solarize(images, tf.where(number == 0, value, 0.0))


GEOMETRIC = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")  # they move pixels, to either side

# Operations that run as one group, and the group's function of (images, value, number within the group, fill).
# A value means: degrees; shear; share of the side; threshold; addition; bits to keep; factor (1 = unchanged).
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
    """Apply operation NAMES[operation[b]] with value[b] to each image b.

    Args:
        images: float32 [B, H, W, 3] in 0..255.
        operation: int32 [B].
        value: float32 [B], in the units that the comment on `_GROUPS` lists.
        fill: colour of pixels from outside of the image.
    """
    number = tf.gather(tf.constant(_NUMBER_OF), operation)
    runs = [lambda mine, *rest, run=run: run(mine, *rest, fill) for _, run in _GROUPS]
    return apply_by_group(tf.gather(tf.constant(_GROUP_OF), operation), runs, images, value, number)


def apply_by_group(group: tf.Tensor, runs: Sequence[Callable[..., tf.Tensor]], images: tf.Tensor, *rest: tf.Tensor):
    """Return the images [B, H, W, 3], each changed by its function runs[group[b]].

    A function is called once, with all of its images [G, H, W, 3] and their rows of `rest`; without images it is not.
    """
    places = tf.dynamic_partition(tf.range(tf.shape(images)[0]), group, len(runs))
    done = [_on_group(run, place, images, *rest) for place, run in zip(places, runs, strict=True)]
    out = tf.dynamic_stitch(places, done)
    return tf.ensure_shape(tf.reshape(out, tf.shape(images)), images.shape)


def _on_group(run: Callable[..., tf.Tensor], place: tf.Tensor, images: tf.Tensor, *rest: tf.Tensor) -> tf.Tensor:
    """Return run(images, *rest) for the entries at the positions `place`. If `place` is empty, `run` is not called."""
    mine = tf.gather(images, place)
    return tf.cond(tf.size(place) > 0, lambda: run(mine, *(tf.gather(r, place) for r in rest)), lambda: mine)
