"""The operations whose mathematics keras-cv 0.9 shares with PIL; the only module that imports keras_cv.

Its layers are handed our own draws through `augment_images(images, transformations=...)`, which is a pure function.
"""

import keras_cv
import tensorflow as tf

# float32 by name, or a mixed_bfloat16 policy would round the pixels; the factors given here are never drawn from
_RANGE = {"value_range": (0, 255), "dtype": "float32"}
_AUTO_CONTRAST = keras_cv.layers.AutoContrast(**_RANGE)
_SOLARIZATION = keras_cv.layers.Solarization(**_RANGE)
_SHARPNESS = keras_cv.layers.RandomSharpness(1.0, **_RANGE)
_COLOUR = keras_cv.layers.RandomColorDegeneration(1.0, dtype="float32")


def _per_image(value: tf.Tensor) -> tf.Tensor:
    return value[:, None, None, None]


def autocontrast(images: tf.Tensor) -> tf.Tensor:
    """255 (x - min) / (max - min), each image and channel by itself."""
    return _AUTO_CONTRAST.augment_images(images)


def solarize(images: tf.Tensor, threshold: tf.Tensor) -> tf.Tensor:
    """x below the threshold, 255 - x from there on; threshold 0 inverts."""
    return _SOLARIZATION.augment_images(images, {"additions": 0.0, "thresholds": _per_image(threshold)})


def sharpness(images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """smooth(x) + factor (x - smooth(x)); PIL's factor counts from the other end than keras-cv's."""
    return _SHARPNESS.augment_images(images, _per_image(1.0 - factor))


def colour(images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """grey(x) + factor (x - grey(x))."""
    return _COLOUR.augment_images(images, _per_image(1.0 - factor))
