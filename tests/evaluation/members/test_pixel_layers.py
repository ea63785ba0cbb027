"""Preprocessing as layers gives what the functions of keras.applications and ?pixels give."""

import keras
import numpy as np
import pytest

from dico_tf.config import from_values
from dico_tf.evaluation.members import applications, keras_files, preprocessing
from dico_tf.evaluation.members.open_branches import open_branches
from dico_tf.evaluation.members.open_members import open_members
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


def normalised(input_shape=(5, 5, 3), dtype="float32", **options) -> keras.Model:
    """Stand for a function of keras.applications: a network with a Normalization layer."""
    image = keras.Input(input_shape)
    x = keras.layers.Normalization(dtype=dtype)(image)
    return keras.Model(image, keras.layers.Dense(3, dtype=dtype)(keras.layers.GlobalAveragePooling2D()(x)))


COPIES = {
    "another size": (lambda model: applications.resized(model, normalised, 8, 0.0), "float32"),
    "float32": (keras_files.in_float32, "mixed_bfloat16"),
}


@pytest.mark.parametrize(("copy", "dtype"), COPIES.values(), ids=COPIES)
def test_a_copy_normalises_by_the_statistics_of_the_weights(copy, dtype):
    model = normalised(dtype=dtype)
    model.layers[1].adapt(IMAGES)
    images = np.full((1, *copy(model).input_shape[1:]), IMAGES[0, 0, 0], np.float32)
    expected = (IMAGES[0, 0, 0] - IMAGES.mean((0, 1, 2))) / IMAGES.std((0, 1, 2))
    assert np.asarray(copy(model).layers[1](images))[0, 0, 0] == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
def test_a_branch_of_keras_applications_computes_the_features_of_the_member():
    """Preprocessing, weights and the image size are those of the member, whose head alone is replaced."""
    uri = "keras:MobileNet@32?alpha=0.25&weights=none"
    opened = open_branches(from_values({"branches": (uri,)}))
    (member,) = open_members([uri])
    built = opened.network.listed[0].build(32, 7)
    opened.network.listed[0].fill(built, opened.arrays[0])
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
    features = keras.Model(built.inputs, built.get_layer("logits").input)(images)
    (head,) = (layer for layer in member.keras_model().layers[-1].layers if layer.name == "conv_preds")
    kernel, bias = head.get_weights()
    assert np.asarray(features) @ kernel[0, 0] + bias == pytest.approx(member.run(images), abs=1e-4)


def test_a_branch_from_a_file_of_mixed_precision_computes_in_float32_and_stays_frozen(tmp_path):
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, name="conv", dtype="mixed_bfloat16", trainable=False)(image)
    x = keras.layers.Flatten(dtype="mixed_bfloat16")(x)
    keras.Model(image, keras.layers.Dense(3, dtype="mixed_bfloat16")(x)).save(tmp_path / "mixed.keras")
    opened = open_branches(from_values({"branches": (f"{tmp_path}/mixed.keras",)}))
    built = opened.network.listed[0].build(8, 5)
    opened.network.listed[0].fill(built, opened.arrays[0])
    assert {layer.dtype_policy.name for layer in built.layers} == {"float32"}
    stored = keras.saving.load_model(tmp_path / "mixed.keras").get_layer("conv").get_weights()
    assert all(map(np.array_equal, built.get_layer("conv").get_weights(), stored))
    assert opened.owner_frozen["frozen_layers"] == ["branch_0/conv"]
