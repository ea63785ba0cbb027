"""What every family's tiny preset must do: answer, learn, be saved and reloaded."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from dico_tf.config import SMALLEST
from dico_tf.models.menu import PRESETS

ANSWERS = {"classification": (7,), "segmentation": (32, 32, 7)}  # to pictures of 32 x 32
TINY = [name for name in PRESETS if name.endswith("_tiny")]
IMAGES = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype(np.uint8)


def test_every_family_has_a_tiny_preset():
    families = {PRESETS[name].family.__name__ for name in PRESETS}
    assert families == {PRESETS[name].family.__name__ for name in TINY}


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("name", TINY)
def test_it_takes_raw_pixels_and_answers_in_float32(name, policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = PRESETS[name].build(32, 7)
    finally:
        keras.config.set_dtype_policy(before)
    assert [tensor.name for tensor in model.inputs] == ["image"]
    logits = model(IMAGES)
    assert logits.shape == (4, *ANSWERS[PRESETS[name].task]) and logits.dtype == "float32"
    assert np.isfinite(logits).all()


@pytest.mark.parametrize("name", TINY)
def test_the_smallest_pictures_leave_every_layer_pixels(name):
    sides = {"classification": (), "segmentation": (SMALLEST, SMALLEST)}[PRESETS[name].task]
    assert PRESETS[name].divided(2).build(SMALLEST, 7).output_shape == (None, *sides, 7)


@pytest.mark.parametrize("name", TINY)
def test_every_variable_learns_once_the_last_gammas_are_awake(name):
    model = PRESETS[name].build(32, 7)
    for variable in model.trainable_variables:
        if variable.name == "gamma":
            variable.assign(np.ones(variable.shape))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(IMAGES, training=True) ** 2)
    for variable, gradient in zip(
        model.trainable_variables, tape.gradient(loss, model.trainable_variables), strict=True
    ):
        assert gradient is not None and np.isfinite(gradient).all(), variable.path


@pytest.mark.parametrize("name", TINY)
def test_a_saved_network_answers_the_same(name, tmp_path):
    model = PRESETS[name].build(32, 7)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert np.array_equal(model(IMAGES), again(IMAGES))
    assert [layer.name for layer in again.layers] == [layer.name for layer in model.layers]
