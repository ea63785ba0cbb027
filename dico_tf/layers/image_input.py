"""First and last layers of image networks: raw pixels 0..255 enter as `image` and are normalised inside."""

import dataclasses

import keras

from dico_tf.errors import UserError

Sides = int | tuple[int | None, int | None]  # side of a square, or (height, width); None = any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Normalisation:
    """Channel means and standard deviations on the 0..1 scale; ImageNet's by default."""

    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)


@keras.saving.register_keras_serializable("dico_tf")
class Normalise(keras.layers.Layer):
    """Normalisation (x / 255 - mean) / std, computed in float32 for any input type; returns the compute dtype."""

    def __init__(self, mean, std, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.mean, self.std = tuple(mean), tuple(std)

    def call(self, images):
        scale = [1 / (255 * s) for s in self.std]
        offset = [m / s for m, s in zip(self.mean, self.std, strict=True)]
        x = keras.ops.cast(images, "float32") * keras.ops.array(scale, "float32")
        return keras.ops.cast(x - keras.ops.array(offset, "float32"), self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "mean": self.mean, "std": self.std}


@keras.saving.register_keras_serializable("dico_tf")
class ReverseChannels(keras.layers.Layer):
    """Red, green and blue in the opposite order, for networks that were trained on BGR images."""

    def call(self, images):
        return keras.ops.take(images, [2, 1, 0], axis=-1)

    def compute_output_shape(self, input_shape):
        return input_shape


def sides(image_size: Sides) -> tuple[int | None, int | None]:
    """Return (height, width) of images: both sides of a square if `image_size` is an int. A side of None may be any."""
    return (image_size, image_size) if isinstance(image_size, int) else image_size


def check_divides(image_size: Sides, step: int, what: str, least: int = 0) -> None:
    """Raise UserError if a side is smaller than `least` pixels or not a positive multiple of `step`; None passes.

    Args:
        what: words in the message for the parts of an image, such as "patches of 16x16 pixels".
        least: a multiple of `step`.
    """
    least = max(step, least)
    for side in sides(image_size):
        if side is not None and side < least:
            raise UserError(f"image_size={side} is too small for {what}: give at least --image_size={least}")
        if side is not None and side % step:
            below = side // step * step
            raise UserError(
                f"image_size={side} does not divide into {what}: give --image_size={below} or {below + step}"
            )


def entrance(image_size: Sides, normalisation: Normalisation):
    """Return the input tensor `image` [B, H, W, 3] of raw pixels 0..255, and the normalised images."""
    image = keras.Input((*sides(image_size), 3), name="image", dtype="float32")
    return image, Normalise(normalisation.mean, normalisation.std, name="normalise")(image)


def head(x, classes: int, dropout: float = 0.0, start=None, bias_start="zeros"):
    """Apply global average pooling, dropout if positive, and a dense layer; return float32 logits [B, classes].

    Args:
        start, bias_start: initialisers of kernel and bias; by default N(0, variance 1e-6) and 0.
    """
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    if dropout:
        x = keras.layers.Dropout(dropout, name="dropout")(x)
    return head_layer(classes, start, bias_start)(x)


def head_layer(classes: int, start=None, bias_start="zeros") -> keras.layers.Dense:
    """Return the dense layer `logits`, which computes in float32; for the initialisers see `head`."""
    start = start or keras.initializers.RandomNormal(stddev=1e-3)
    return keras.layers.Dense(
        classes, kernel_initializer=start, bias_initializer=bias_start, dtype="float32", name="logits"
    )


def uniform(limit: float):
    """Return the initialiser U(-limit, limit)."""
    return keras.initializers.RandomUniform(-limit, limit)
