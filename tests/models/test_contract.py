"""What every family's tiny preset must do: answer, learn, be saved and reloaded."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from dico_tf.config.validation import SMALLEST
from dico_tf.layers.drop_path import DropBlock, DropPath
from dico_tf.models import se_resnet
from dico_tf.models.presets import PRESETS
from tests.tiers import slow_but

TINY = [name for name in PRESETS if PRESETS[name].tiny]
QUICK = ("wrn_tiny", "vit_tiny")


def pictures(name: str) -> np.ndarray:
    """Four images, or clips of four frames, in raw pixels."""
    shape = (4, *PRESETS[name].with_frames(4).shape(32)) if PRESETS[name].task == "video" else (4, 32, 32, 3)
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


def answer(name: str, side: int) -> tuple[int, ...]:
    """Shape of what it says of a picture: seven logits, or as many of each pixel."""
    return (side, side, 7) if PRESETS[name].task == "segmentation" else (7,)


def test_every_family_has_a_tiny_preset():
    families = {PRESETS[name].family_name for name in PRESETS}
    assert families == {PRESETS[name].family_name for name in TINY}


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("name", slow_but(QUICK, TINY))
def test_it_takes_raw_pixels_and_answers_in_float32(name, policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = PRESETS[name].build(32, 7)
    finally:
        keras.config.set_dtype_policy(before)
    assert [tensor.name for tensor in model.inputs] == ["image"]
    logits = model(pictures(name))
    assert logits.shape == (4, *answer(name, 32)) and logits.dtype == "float32"
    assert np.isfinite(logits).all()


@pytest.mark.parametrize("name", slow_but(QUICK, TINY))
def test_the_smallest_pictures_leave_every_layer_pixels(name):
    rule = "published" if 2 in PRESETS[name].spec.splits else "params"
    branch = PRESETS[name].divided(2, rule, SMALLEST, 7)
    assert branch.build(SMALLEST, 7).output_shape == (None, *answer(name, SMALLEST))


@pytest.mark.parametrize("name", slow_but(QUICK, TINY))
def test_every_variable_learns_once_the_last_gammas_are_awake(name):
    model = PRESETS[name].build(32, 7)
    for variable in model.trainable_variables:
        if variable.name == "gamma":
            variable.assign(np.ones(variable.shape))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(pictures(name), training=True) ** 2)
    for variable, gradient in zip(
        model.trainable_variables, tape.gradient(loss, model.trainable_variables), strict=True
    ):
        assert gradient is not None and np.isfinite(tf.convert_to_tensor(gradient)).all(), variable.path


@pytest.mark.parametrize("name", slow_but(QUICK, TINY))
def test_a_saved_network_answers_the_same(name, tmp_path):
    model = PRESETS[name].build(32, 7)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert np.array_equal(model(pictures(name)), again(pictures(name)))
    assert [layer.name for layer in again.layers] == [layer.name for layer in model.layers]


def test_an_se_resnet_drops_more_in_later_blocks_and_squares_in_its_last_two_stages():
    spec = se_resnet.Spec(blocks=(1, 2, 1, 1), width=16, drop_path=0.5, drop_block=0.1)
    layers = se_resnet.build(spec, 64, 7).layers
    assert [layer.rate for layer in layers if isinstance(layer, DropPath)] == [0.5 * i / 6 for i in range(1, 6)]
    squares = [layer.name.split("_")[0] for layer in layers if isinstance(layer, DropBlock)]
    assert squares == ["stage3"] * 3 + ["stage4"] * 3


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"regularisation": {"dropout": "S^2"}}, r"expected rates divided by one of S, sqrt\(S\), got S\^2"),
        ({"task": "segmentation"}, "expected `learner` for segmentation alone, .* without it"),
        ({"learner": lambda spec, branch: branch}, "expected `learner` for segmentation alone, .* with it"),
    ],
)
def test_a_family_that_contradicts_itself_is_refused(wrong, message):
    with pytest.raises(ValueError, match=f"family resnet: {message}"):
        dataclasses.replace(PRESETS["resnet_20"].family, **wrong)
