"""Preprocessing as layers gives what the functions of keras.applications and ?pixels give."""

import keras
import numpy as np
import pytest

from dico_tf.evaluation.members import applications, preprocessing
from dico_tf.evaluation.members.pixel_layers import on_raw_pixels, pixel_layers

IMAGES = np.random.default_rng(0).uniform(0, 255, (2, 5, 5, 3)).astype(np.float32)
FAMILIES = {
    applications.preprocessing(getattr(keras.applications, name)): name for name in applications.NAMES
}  # one network for each function
FUNCTIONS = {**{name: f for f, name in FAMILIES.items()}, **preprocessing.PIXELS}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_layers_do_what_the_function_does(name):
    values = IMAGES
    for layer in pixel_layers(FUNCTIONS[name]):
        values = layer(values)
    assert np.asarray(values) == pytest.approx(FUNCTIONS[name](IMAGES.copy()), rel=1e-5, abs=1e-4)


def test_functions_of_all_kinds_are_among_them():
    kinds = {tuple(type(layer).__name__ for layer in pixel_layers(f)) for f in FUNCTIONS.values()}
    assert kinds == {(), ("Normalise",), ("ReverseChannels", "Normalise")}


def test_what_mixes_channels_is_refused():
    with pytest.raises(ValueError, match="mixes the channels"):
        pixel_layers(lambda x: x @ np.full((3, 3), 0.3, np.float32))


def test_a_network_on_raw_pixels_shares_its_layers():
    image = keras.Input((5, 5, 3))
    model = keras.Model(image, keras.layers.Flatten()(keras.layers.Conv2D(2, 3, name="conv")(image)))
    raw = on_raw_pixels(model, preprocessing.PIXELS["-1..1"], 5)
    assert raw.get_layer(model.name) is model
    assert np.asarray(raw(IMAGES)) == pytest.approx(np.asarray(model(IMAGES / 127.5 - 1)), abs=1e-5)
