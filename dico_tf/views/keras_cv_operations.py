"""Operations of keras-cv 0.9 that compute what PIL computes; no other module of dico_tf imports keras_cv.

The layers get our random numbers through `augment_images(images, transformations=...)`, which is a pure function.
"""

import functools

import keras
import keras_cv
import tensorflow as tf

# float32 explicitly: a mixed_bfloat16 policy would round the pixels
_RANGE = {"value_range": (0, 255), "dtype": "float32"}


@functools.cache
def layers() -> dict[str, keras.layers.Layer]:
    """Return the layers by operation. The first call makes them, not the import: making one initialises the devices."""
    return {
        "solarize": keras_cv.layers.Solarization(**_RANGE),
        "colour": keras_cv.layers.RandomColorDegeneration(1.0, dtype="float32"),
    }


def _per_image(value: tf.Tensor) -> tf.Tensor:
    return value[:, None, None, None]


def solarize(images: tf.Tensor, threshold: tf.Tensor) -> tf.Tensor:
    """Return x for values below the threshold [B] of an image, else 255 - x; threshold 0 inverts."""
    return layers()["solarize"].augment_images(images, {"additions": 0.0, "thresholds": _per_image(threshold)})


def colour(images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Return grey(x) + factor (x - grey(x)), clipped to 0..255, with a factor [B] for each image."""
    return layers()["colour"].augment_images(images, _per_image(1.0 - factor))
