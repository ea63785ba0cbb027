"""Bilinear and bicubic resizing of images and feature maps, and average pooling to a fixed size."""

import keras
import numpy as np
from keras import ops

_A = -0.75  # of Keys' cubic, as in PyTorch


@keras.saving.register_keras_serializable("dico_tf")
class ResizeAs(keras.layers.Layer):
    """Bilinear resizing of x to the height and width of y, [x, y] -> [B, H, W, C].

    Shapes: x [B, h, w, C], y [B, H, W, D]. Pixels are squares that fill the map, as with align_corners=False in
    PyTorch.
    """

    def call(self, inputs):
        x, like = inputs
        if keras.backend.backend() != "tensorflow":
            return ops.image.resize(x, tuple(like.shape[1:3]), interpolation="bilinear")
        import tensorflow as tf  # ops.image.resize takes no sizes that are known only when it runs

        return tf.cast(tf.image.resize(x, tf.shape(like)[1:3]), x.dtype)

    def compute_output_shape(self, input_shape):
        shape, like = input_shape
        return (*like[:3], shape[-1])


@keras.saving.register_keras_serializable("dico_tf")
class ResizeImage(keras.layers.Layer):
    """Bilinear resizing with antialiasing: images [B, H, W, 3] to squares [B, n, n, 3], n = `size`.

    H and W must be known when the model is built; their ratio is not kept. The result is that of tf.image.resize with
    antialias=True, in float32. It is computed as weighted sums of rows, then of columns, since LiteRT and ONNX have no
    resizing with antialiasing.
    """

    def __init__(self, size: int, **options):
        super().__init__(autocast=False, **options)
        self.size = size

    def call(self, images):
        x = ops.cast(images, "float32")
        for axis, shape in ((1, (1, -1, 1, 1)), (2, (1, 1, -1, 1))):
            taps, shares = _taps(bilinear_weights(x.shape[axis], self.size))
            pairs = zip(taps.T, shares.T, strict=True)
            x = sum(ops.take(x, tap, axis=axis) * share.reshape(shape) for tap, share in pairs)
        return x

    def compute_output_spec(self, images):
        return keras.KerasTensor((images.shape[0], self.size, self.size, images.shape[-1]), "float32")

    def get_config(self):
        return {**super().get_config(), "size": self.size}


def _taps(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the columns of the weights that are not 0, and these weights: both [rows, k].

    k is the largest number of such weights in a row; shorter rows are filled up with weights of 0.
    """
    count = np.count_nonzero(weights, axis=1).max()
    taps = np.argsort(weights == 0, axis=1, kind="stable")[:, :count]
    return taps, np.take_along_axis(weights, taps, axis=1).astype(np.float32)


@keras.saving.register_keras_serializable("dico_tf", name="Parts")  # its name in saved files
class AdaptiveAveragePooling(keras.layers.Layer):
    """Average pooling to n x n parts, n = `count`: [B, h, w, C] -> [B, n, n, C], the mean of the pixels a part touches.

    Works in graphs also for maps smaller than n x n, where keras.layers.AdaptiveAveragePooling2D fails.
    """

    def __init__(self, count: int, **options):
        super().__init__(**options)
        self.count = count

    def call(self, x):
        _, height, width, channels = x.shape
        weights = np.kron(pooling_weights(height, self.count), pooling_weights(width, self.count))
        x = ops.matmul(ops.cast(weights, x.dtype), ops.reshape(x, (-1, height * width, channels)))
        return ops.reshape(x, (-1, self.count, self.count, channels))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.count, self.count, input_shape[-1])

    def get_config(self):
        return {**super().get_config(), "count": self.count}


def pooling_weights(side: int, count: int) -> np.ndarray:
    """Return weights [count, side]: part i averages pixels floor(i side / count) to ceil((i + 1) side / count) - 1."""
    pixel, part = np.arange(side), np.arange(count)[:, None]
    inside = (pixel >= part * side // count) & (pixel < -(-(part + 1) * side // count))
    return (inside / inside.sum(1, keepdims=True)).astype(np.float32)


def bicubic(maps: np.ndarray, sides: tuple[int, int]) -> np.ndarray:
    """Resize a map [h, w, C] to [H, W, C] by bicubic interpolation, as PyTorch does (a = -3/4, no antialiasing).

    Values beyond the border are those at the border.
    """
    rows, columns = (bicubic_weights(old, new) for old, new in zip(maps.shape[:2], sides, strict=True))
    return np.einsum("Hh,hwc,Ww->HWc", rows, maps.astype(np.float64), columns).astype(maps.dtype)


def bicubic_weights(old: int, new: int) -> np.ndarray:
    """Return weights [new, old] of the old pixels in each new one; rows sum to 1."""
    middle = (np.arange(new) + 0.5) * old / new - 0.5
    first = np.floor(middle).astype(int)
    weights = np.zeros((new, old))
    for step in range(-1, 3):
        pixels = np.clip(first + step, 0, old - 1)
        np.add.at(weights, (np.arange(new), pixels), _kernel(np.abs(middle - first - step)))
    return weights


def bilinear_weights(old: int, new: int) -> np.ndarray:
    """Return weights [new, old] of the old pixels in each new one: triangles, widened by old / new if new < old.

    Rows sum to 1.
    """
    wide = max(old / new, 1.0)
    middle = (np.arange(new) + 0.5) * old / new - 0.5
    weights = np.maximum(1 - np.abs(np.arange(old) - middle[:, None]) / wide, 0)
    return weights / weights.sum(axis=1, keepdims=True)


def _kernel(x: np.ndarray) -> np.ndarray:
    """Keys' cubic, with a = -3/4, of distances x from 0 to 2.

    It is (a + 2) x^3 - (a + 3) x^2 + 1 up to 1, and a (x^3 - 5 x^2 + 8 x - 4) above.
    """
    near = (_A + 2) * x**3 - (_A + 3) * x**2 + 1
    return np.where(x <= 1, near, _A * (x**3 - 5 * x**2 + 8 * x - 4))
