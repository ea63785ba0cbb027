"""X3D against its published and counted figures."""

import dataclasses
import math

import keras
import numpy as np
import pytest

from dico_tf.divide.networks.graph import weightless
from dico_tf.models import x3d
from dico_tf.models.preset import Preset
from dico_tf.models.presets import PRESETS
from dico_tf.models.x3d import KINETICS

# preset: (parameters and running statistics of the pytorchvideo form at 400 and 600 classes; of the slowfast form)
COUNTS = {
    "x3d_m": ((3_794_274, 4_204_074, 31_416), (3_794_322, 4_204_122, 31_464)),
    "x3d_l": ((6_153_384, 6_563_184, 66_264), (6_153_432, 6_563_232, 66_312)),
    "x3d_xl": ((11_095_840, 11_505_640, 95_580), (11_095_904, 11_505_704, 95_644)),
}
GMACS = {  # at the training crop; at the crop of the published 30 views
    "x3d_xs": (0.605, 182, 0.844),
    "x3d_s": (1.963, 182, 2.727),
    "x3d_m": (4.732, 256, 6.186),
    "x3d_l": (18.368, 356, 24.778),
    "x3d_xl": (35.838, 356, 48.424),
}


def form(name: str, shortcut: str) -> Preset:
    return dataclasses.replace(PRESETS[name], spec=dataclasses.replace(PRESETS[name].spec, shortcut=shortcut))


def built(name: str, classes: int = 400) -> keras.Model:
    """Without weights."""
    return weightless(lambda: PRESETS[name].build(PRESETS[name].spec.crop, classes))


LARGE = [pytest.param(name, marks=pytest.mark.slow) for name in ("x3d_l", "x3d_xl")]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["x3d_m", *LARGE])
def test_parameters_are_met_to_the_last_one_in_both_forms(name):
    for shortcut, (first, second, running) in zip(("pytorchvideo", "slowfast"), COUNTS[name], strict=True):
        preset = form(name, shortcut)
        costs = [preset.cost(preset.spec.crop, classes) for classes in (400, 600)]
        assert [cost.params for cost in costs] == [first, second]
        assert {cost.running for cost in costs} == {running}


def test_xs_s_and_m_are_one_network_at_three_shapes_of_clips():
    specs = [dataclasses.asdict(PRESETS[f"x3d_{size}"].spec) for size in ("xs", "s", "m")]
    shapes = [[spec.pop(name) for name in ("frames", "rate", "crop")] for spec in specs]
    assert shapes == [[4, 12, 160], [13, 6, 160], [16, 5, 224]] and specs[0] == specs[1] == specs[2]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["x3d_xs", "x3d_s", "x3d_m", *LARGE])
def test_multiply_adds_are_met_at_both_crops(name):
    train, larger, test = GMACS[name]
    preset = PRESETS[name]
    assert preset.cost(preset.spec.crop, 400).macs / 1e9 == pytest.approx(train, rel=1e-3)
    assert round(preset.cost(preset.spec.crop, 400, larger).macs / 1e9, 3) == test


def test_widths_blocks_and_squeezed_widths_are_the_published_ones():
    xl, m = PRESETS["x3d_xl"].spec, PRESETS["x3d_m"].spec
    assert m.widths == [24, 24, 48, 96, 192] and m.blocks == [3, 5, 11, 7]
    assert xl.widths == [32, 32, 72, 136, 280] and xl.blocks == [5, 10, 25, 15]
    assert [x3d.rounded(int(2.25 * w) / 16) for w in m.widths[1:]] == [8, 8, 16, 32]
    assert [x3d.rounded(int(2.25 * w) / 16) for w in xl.widths[1:]] == [8, 16, 24, 40]


def test_feature_maps_keep_every_frame_and_halve_five_times():
    preset = PRESETS["x3d_m"]
    network = built("x3d_m")
    ends = ["stem_relu", *(f"stage{i + 1}_block{n}_relu3" for i, n in enumerate(preset.spec.blocks))]
    maps = keras.Model(network.input, [network.get_layer(name).output for name in ends])
    shapes = weightless(lambda: [tuple(x.shape[1:]) for x in maps(keras.Input(preset.shape(224)))])
    assert shapes == [(16, 112, 112, 24), (16, 56, 56, 24), (16, 28, 28, 48), (16, 14, 14, 96), (16, 7, 7, 192)]


@pytest.mark.slow
def test_normalisations_are_counted_in_both_forms():
    networks = [weightless(form("x3d_m", s).build, 224, 400) for s in ("slowfast", "pytorchvideo")]
    norms = [sum(isinstance(x, keras.layers.BatchNormalization) for x in n.layers) for n in networks]
    assert norms == [84, 83]


def test_squeeze_and_excitation_stands_in_every_second_block_of_a_stage():
    network = built("x3d_m")
    excited = {layer.name.removesuffix("_se_scale") for layer in network.layers if layer.name.endswith("_se_scale")}
    blocks = PRESETS["x3d_m"].spec.blocks
    assert excited == {f"stage{i + 1}_block{n}" for i, count in enumerate(blocks) for n in range(1, count + 1, 2)}


@pytest.fixture(scope="module")
def small() -> keras.Model:
    """x3d_s of fewer blocks: the widths of S, M and L."""
    return x3d.build(dataclasses.replace(PRESETS["x3d_s"].spec, depth=1.0), 160, 5)


@pytest.mark.slow
def test_one_set_of_weights_runs_clips_of_every_length_and_size(small):
    assert small.get_layer("head_pool").pool_size == (5, 5)
    for frames, size in ((4, 160), (13, 160), (2, 182), (3, 224)):
        assert small(np.zeros((1, frames, size, size, 3), np.uint8)).shape == (1, 5)


def test_a_larger_clip_is_answered_at_several_places(small):
    """The mean of their logits; a clip that repeats in space is answered the same everywhere inside."""
    places = keras.Model(small.input, small.get_layer("logits").output)
    noise = np.random.default_rng(0).integers(0, 256, (1, 2, 182, 182, 3)).astype(np.uint8)
    result = places(noise).numpy()
    assert result.shape == (1, 2, 2, 5)
    np.testing.assert_allclose(small(noise), result.mean((1, 2)), atol=1e-6)


def test_at_the_start_identity_blocks_return_what_they_get(small):
    """The last gammas are 0; what comes in has passed a ReLU."""
    model = keras.Model(small.input, [small.get_layer(f"stage2_block{n}_relu3").output for n in (1, 2)])
    noise = np.random.default_rng(0).integers(0, 256, (1, 2, 32, 32, 3)).astype(np.uint8)
    before, after = model(noise)
    assert np.array_equal(before, after) and np.ptp(after) > 0


def test_weights_start_as_published(small):
    spread = {layer.name: float(np.std(layer.kernel)) for layer in small.layers if hasattr(layer, "kernel")}
    assert spread["stage2_block1_conv2"] == pytest.approx(math.sqrt(2 / (27 * 108)), rel=0.05)  # 0.0262
    assert spread["stage2_block1_conv1"] == pytest.approx(math.sqrt(2 / 108), rel=0.05)
    assert spread["stage3_block1_se_reduce"] == pytest.approx(math.sqrt(2 / 16), rel=0.08)
    assert spread["head_conv2"] == pytest.approx(math.sqrt(2 / 2048), rel=0.05)
    assert spread["logits"] == pytest.approx(0.01, rel=0.05)
    assert not np.any(small.get_layer("logits").bias)


def test_pixels_are_normalised_inside():
    model = PRESETS["x3d_tiny"].build(32, 3)
    layer = model.get_layer("normalise")
    assert (layer.mean, layer.std) == (KINETICS.mean, KINETICS.std) == ((0.45,) * 3, (0.225,) * 3)


def test_the_family_takes_two_forms_only():
    with pytest.raises(Exception, match="expected one of slowfast, pytorchvideo"):
        x3d.Spec(frames=4, rate=1, crop=32, shortcut="none")


@pytest.mark.slow
def test_s_branches_cost_up_to_a_sixth_more_than_the_whole():
    for splits in (2, 4):
        whole, branch = PRESETS["x3d_m"], PRESETS["x3d_m"].divided(splits)
        costs = [preset.cost(224, 400) for preset in (whole, branch)]
        assert splits * costs[1].macs == pytest.approx(costs[0].macs, rel=0.18)
        assert branch.spec.dropout == whole.spec.dropout / splits
