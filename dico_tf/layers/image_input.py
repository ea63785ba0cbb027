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
    """Normalisation (x / 255 - mean) / std, computed in float32 for any input type."""

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


def sides(image_size: Sides) -> tuple[int | None, int | None]:
    """Return (height, width)."""
    return (image_size, image_size) if isinstance(image_size, int) else image_size


def check_divides(image_size: Sides, step: int, what: str, least: int = 0) -> None:
    """Raise UserError if a side is smaller than `least` or not a multiple of `step` pixels; unknown sides pass."""
    for side in sides(image_size):
        if side is not None and (side % step or side < max(step, least)):
            below = side // step * step
            fitting = [size for size in (below, below + step) if size >= max(step, least)] or [max(step, least)]
            raise UserError(
                f"image_size={side} does not divide into {what}: give --image_size={' or '.join(map(str, fitting))}"
            )


def entrance(image_size: Sides, normalisation: Normalisation):
    """Return the input tensor [B, H, W, 3] and the normalised images."""
    image = keras.Input((*sides(image_size), 3), name="image", dtype="float32")
    return image, Normalise(normalisation.mean, normalisation.std, name="normalise")(image)


def head(x, classes: int, dropout: float = 0.0, start=None, bias_start="zeros"):
    """Apply global average pooling, dropout and a dense layer to float32 logits.

    By default the kernel starts at N(0, 1e-6) and the bias at 0.
    """
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    if dropout:
        x = keras.layers.Dropout(dropout, name="dropout")(x)
    start = start or keras.initializers.RandomNormal(stddev=1e-3)
    dense = keras.layers.Dense(
        classes, kernel_initializer=start, bias_initializer=bias_start, dtype="float32", name="logits"
    )
    return dense(x)


def uniform(limit: float):
    """Return the initialiser U(-limit, limit)."""
    return keras.initializers.RandomUniform(-limit, limit)
