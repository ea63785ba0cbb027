"""Preprocessing of raw pixels as layers, so that a network is trained and exported together with it."""

from collections.abc import Callable

import keras
import numpy as np

from dico_tf.layers.image_input import Normalise, ReverseChannels

_WHITE = 255.0


def on_raw_pixels(model: keras.Model, prepare: Callable, size: int) -> keras.Model:
    """Return a model from raw images [B, size, size, 3] of 0..255 to the outputs of `model`, whose layers it shares.

    Args:
        prepare: function of float images that gives what `model` expects; see `pixel_layers`.
    """
    image = keras.Input((size, size, 3), name="image", dtype="float32")
    pixels = image
    for layer in pixel_layers(prepare):
        pixels = layer(pixels)
    return keras.Model(image, model(pixels), name=model.name)


def pixel_layers(prepare: Callable[[np.ndarray], np.ndarray]) -> list[keras.layers.Layer]:
    """Return layers that do to images what `prepare` does; [] if it changes nothing.

    `prepare` must scale and shift each channel, and may reverse their order. The formula is found from its results for
    black, red, green and blue. Raises ValueError if it mixes channels.
    """
    black = np.asarray(prepare(np.zeros((1, 1, 1, 3), np.float32)), np.float64).reshape(3)
    colours = (_WHITE * np.eye(3, dtype=np.float32)).reshape(3, 1, 1, 3)
    matrix = (np.asarray(prepare(colours), np.float64).reshape(3, 3) - black) / _WHITE  # [channel in, channel out]
    turned = not np.diag(matrix).all()
    scale = np.diag(matrix[::-1] if turned else matrix)
    if np.count_nonzero(matrix) != 3 or not scale.all():
        raise ValueError(f"preprocessing mixes the channels of images: {matrix.tolist()}")
    layers: list[keras.layers.Layer] = [ReverseChannels(name="reverse_channels")] if turned else []
    if (scale != 1).any() or black.any():
        std = 1 / (_WHITE * scale)
        layers.append(Normalise((-black * std).tolist(), std.tolist(), name="normalise_pixels"))
    return layers
