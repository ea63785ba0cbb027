"""Decoding of JPEG and PNG bytes within a graph, with the same result as data/image_decoding.py.

One difference remains: an EXIF orientation in a PNG is ignored.
"""

import functools
from collections.abc import Callable

import tensorflow as tf

from dico_tf.data.image_decoding import ENOUGH
from dico_tf.export.resampling import square

MAX_PIXELS = 100_000_000  # larger images are refused before they are decoded
_SCALES = (8, 4, 2, 1)  # fractions 1/n of its size at which a JPEG can be decoded
_HEAD = 70_000  # bytes that contain the EXIF segment, which has at most 65,535
_EXIF = tuple(b"Exif\0\0")
_ORIENTATION = 0x0112
_PNG = b"\x89PNG\r\n\x1a\n"  # signature of PNG files


def squares(contents: tf.Tensor, size: int, short: int) -> tf.Tensor:
    """Decode JPEG and PNG strings [B], resize them to the short side `short`, and cut out uint8 [B, size, size, 3].

    With short <= size, each result is the whole central square, resized to `size`.
    """
    return _squares(size, short)(contents)


@functools.cache
def _squares(size: int, short: int) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return `squares` for this size and short side, as a graph function of `contents` alone.

    It is cached, because tracing it takes seconds.
    """
    least = (2 if short <= size else ENOUGH) * size
    one = tf.TensorSpec((size, size, 3), tf.uint8)

    def decode(contents: tf.Tensor) -> tf.Tensor:
        return tf.map_fn(
            lambda content: square(decoded(content, least), size, short), contents, fn_output_signature=one
        )

    return tf.function(decode, input_signature=[tf.TensorSpec((None,), tf.string)], autograph=False)


def decoded(content: tf.Tensor, least: int) -> tf.Tensor:
    """Decode a JPEG or PNG to uint8 [h, w, 3].

    A JPEG is turned upright by its EXIF entry. It is decoded at 1/8, 1/4 or 1/2 of its size, the smallest that
    leaves `least` pixels on each side, or else at all of its size. Transparent parts of a PNG become white.
    """
    return tf.cond(tf.io.is_jpeg(content), lambda: _jpeg(content, least), lambda: _png(content))


def _jpeg(content: tf.Tensor, least: int) -> tf.Tensor:
    shape = tf.io.extract_jpeg_shape(content)
    with tf.control_dependencies([_small_enough(shape[0], shape[1])]):
        spare = tf.minimum(shape[0], shape[1]) // least
    index = tf.reduce_sum(tf.cast(spare < tf.constant(_SCALES[:-1]), tf.int32))

    def at(scale):
        return lambda: tf.io.decode_jpeg(content, channels=3, ratio=scale, dct_method="INTEGER_ACCURATE")

    image = tf.switch_case(index, [at(scale) for scale in _SCALES])
    return _upright(image, _orientation(content))


def _png(content: tf.Tensor) -> tf.Tensor:
    """Decode a PNG to uint8 [h, w, 3]; transparent parts become white.

    Images of more than MAX_PIXELS and other formats raise an error when the graph runs. TensorFlow would decode other
    formats, too, but their size could not be checked here.
    """
    signature = tf.debugging.Assert(
        tf.strings.substr(content, 0, len(_PNG)) == _PNG, ["expected a JPEG or PNG image, got neither"]
    )
    with tf.control_dependencies([signature]):
        header = tf.io.decode_raw(tf.strings.substr(content, 16, 8), tf.int32, little_endian=False, fixed_length=8)
    with tf.control_dependencies([_small_enough(header[1], header[0])]):
        image = tf.cast(tf.io.decode_png(content, channels=4), tf.int32)
    alpha = tf.where(_false_alpha(image[..., 3], content), 255, image[..., 3:])
    return tf.cast((image[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255, tf.uint8)


def _false_alpha(alpha: tf.Tensor, content: tf.Tensor) -> tf.Tensor:
    """Return whether a PNG is opaque although TensorFlow decodes its `alpha` as less than 255: bool [].

    In PNGs of 1, 2 or 4 bits, TensorFlow decodes opaque pixels as 2^bits - 1.
    """
    bits, colours = tf.unstack(tf.io.decode_raw(tf.strings.substr(content, 24, 2), tf.uint8, fixed_length=2))
    bits = tf.cast(bits, tf.int32)
    return (bits < 8) & ((colours == 0) | tf.reduce_all(alpha == tf.bitwise.left_shift(1, bits) - 1))


def _small_enough(height: tf.Tensor, width: tf.Tensor) -> tf.Operation:
    pixels = tf.cast(height, tf.int64) * tf.cast(width, tf.int64)
    return tf.debugging.assert_less_equal(
        pixels, tf.constant(MAX_PIXELS, tf.int64), f"expected at most {MAX_PIXELS} pixels, got a larger image"
    )


def _orientation(content: tf.Tensor) -> tf.Tensor:
    """Return the EXIF orientation, 1 to 8; 1 if there is none."""
    head = tf.io.decode_raw(tf.strings.substr(content, 0, _HEAD), tf.uint8)
    data = tf.pad(tf.cast(head, tf.int32), [[0, 16]])
    count = tf.shape(head)[0]
    marks = tf.reduce_all([data[n : n + count] == byte for n, byte in enumerate(_EXIF)], axis=0)
    start = tf.cast(tf.argmax(marks), tf.int32) + len(_EXIF)  # position of the TIFF header
    little = _at(data, start) == ord("I")

    def number(place, length):
        """Return the unsigned integers of `length` bytes at the offsets `place`, in the byte order of the EXIF data."""
        powers = tf.range(length)
        powers = tf.where(little, powers, length - 1 - powers)
        parts = [_at(data, place + n) * 256 ** powers[n] for n in range(length)]
        return tf.add_n(parts)

    table = start + number(start + 4, 4)
    entries = table + 2 + 12 * tf.range(tf.clip_by_value(number(table, 2), 0, 1024))
    values = tf.where(number(entries, 2) == _ORIENTATION, number(entries + 8, 2), 0)
    value = tf.reduce_max(tf.concat([values, [0]], 0))
    return tf.where(tf.reduce_any(marks) & (value >= 1) & (value <= 8), value, 1)


def _at(data: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
    """Return data[place], with places clipped to the array."""
    return tf.gather(data, tf.clip_by_value(place, 0, tf.shape(data)[0] - 1))


def _upright(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turn an image upright by its EXIF orientation.

    1 = upright, 2 = left and right swapped, 3 = turned by 180 degrees, 4 = both; 5 to 8 are these with rows and columns
    exchanged.
    """
    image = tf.cond(orientation >= 5, lambda: tf.transpose(image, (1, 0, 2)), lambda: image)
    image = tf.cond(tf.reduce_any(orientation == [2, 3, 6, 7]), lambda: tf.reverse(image, [1]), lambda: image)
    return tf.cond(tf.reduce_any(orientation == [3, 4, 7, 8]), lambda: tf.reverse(image, [0]), lambda: image)
