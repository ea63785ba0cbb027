"""The operations whose mathematics keras-cv 0.9 shares with PIL; the only module that imports keras_cv.

Its layers are handed our own draws through `augment_images(images, transformations=...)`, which is a pure function.
"""

import functools

import keras
import keras_cv
import tensorflow as tf

# float32 by name, or a mixed_bfloat16 policy would round the pixels
_RANGE = {"value_range": (0, 255), "dtype": "float32"}


@functools.cache
def layers() -> dict[str, keras.layers.Layer]:
    """Made when the first views are, not at import: making a layer fixes the devices a user may still want to set."""
    return {
        "solarize": keras_cv.layers.Solarization(**_RANGE),
        "colour": keras_cv.layers.RandomColorDegeneration(1.0, dtype="float32"),
    }


def _per_image(value: tf.Tensor) -> tf.Tensor:
    return value[:, None, None, None]


def solarize(images: tf.Tensor, threshold: tf.Tensor) -> tf.Tensor:
    """x below the threshold, 255 - x from there on; threshold 0 inverts."""
    return layers()["solarize"].augment_images(images, {"additions": 0.0, "thresholds": _per_image(threshold)})


def colour(images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """grey(x) + factor (x - grey(x))."""
    return layers()["colour"].augment_images(images, _per_image(1.0 - factor))
