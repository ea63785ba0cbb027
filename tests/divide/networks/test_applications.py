"""Networks of keras.applications, divided."""

import functools
import math

import keras
import numpy as np
import pytest

from dico_tf.divide import divide_model
from dico_tf.divide.networks.cost import cost
from dico_tf.divide.networks.division import Plan, plan
from dico_tf.divide.networks.graph import weightless
from tests.divide.networks.contract import checked, divided, sizes

SIZES = {"Xception": 71}
NAMES = (
    "ResNet50",
    "MobileNetV2",
    "MobileNetV3Small",
    "EfficientNetV2B0",
    "DenseNet121",
    "ConvNeXtTiny",
    "Xception",
)


@functools.cache
def network(name: str) -> keras.Model:
    """Return a network without weights."""
    size = SIZES.get(name, 32)
    make = getattr(keras.applications, name)
    return weightless(lambda: make(weights=None, input_shape=(size, size, 3), classes=10))


@functools.cache
def halved(name: str) -> Plan:
    return plan(network(name), 2)


def half(name: str) -> keras.Model:
    return weightless(halved(name).build)


@pytest.fixture(autouse=True)
def _cleared():
    yield
    keras.utils.clear_session()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_two_branches_cost_what_the_whole_does(name):
    """One of them also answers, has gradients everywhere, and has exactly the planned parameters."""
    whole = network(name)
    division = halved(name)
    branch = checked(division, whole)
    assert division.whole == cost(whole)
    assert division.met and abs(2 * branch.count_params() / whole.count_params() - 1) < 0.03
    assert branch.output_shape == (None, 10)
    kinds = [type(layer).__name__ for layer in whole.layers if not isinstance(layer, keras.Sequential)]
    ours = [type(layer).__name__.replace("GroupedConvolution", "Conv2D") for layer in branch.layers]
    assert not [kind for kind in set(kinds) if kinds.count(kind) > ours.count(kind)]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("splits", "budget"), [(3, "macs"), (8, "params"), (32, "params")])
def test_any_number_of_branches_costs_what_the_whole_does(name, splits, budget):
    division = plan(network(name), splits, budget)
    assert division.met or "nearest" in str(division)
    assert abs(division.distance) <= 0.02
    assert division.distance == splits * getattr(division.branch, budget) / getattr(division.whole, budget) - 1


@pytest.mark.slow
def test_branches_are_alike_but_start_apart_and_can_be_saved(tmp_path):
    branches = divide_model(network("MobileNetV3Small"), 2)
    one, other = branches
    assert [branch.name for branch in branches] == ["branch_0", "branch_1"] and branches.plan.splits == 2
    assert [w.shape for w in one.weights] == [w.shape for w in other.weights]
    kernels = [(a, b) for a, b in zip(one.weights, other.weights, strict=True) if a.name == "kernel"]
    assert kernels and not any(np.array_equal(a.numpy(), b.numpy()) for a, b in kernels)
    one.save(tmp_path / "branch.keras")
    again = keras.saving.load_model(tmp_path / "branch.keras")
    image = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3))
    np.testing.assert_array_equal(again(image), one(image))


def test_a_branch_with_grouped_convolutions_can_be_saved(tmp_path):
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(16, 3)(image)
    x = keras.layers.Conv2D(16, 3, groups=16)(x)
    (branch, _) = divide_model(keras.Model(image, x), 2)
    branch.save(tmp_path / "branch.keras")
    given = np.random.default_rng(0).normal(size=(2, 8, 8, 3))
    again = keras.saving.load_model(tmp_path / "branch.keras")
    np.testing.assert_array_equal(again(given), branch(given))


@pytest.mark.slow
def test_a_residual_stage_has_one_width_and_its_blocks_their_own():
    branch = half("ResNet50")
    stage = sizes(branch, "conv2_block1_0_conv", "conv2_block1_3_conv", "conv2_block2_3_conv", "conv2_block3_out")
    assert len(set(stage)) == 1 and stage[0] < 256
    assert sizes(branch, "conv2_block1_1_conv")[0] < 64


@pytest.mark.slow
def test_the_squeeze_and_its_excitation_narrow_with_what_they_scale():
    branch = half("EfficientNetV2B0")
    reshape = branch.get_layer("block5a_se_reshape")
    wide = sizes(branch, "block5a_expand_conv", "block5a_dwconv2", "block5a_se_expand", "block5a_se_excite")
    assert len(set(wide)) == 1 and wide[0] < 672 and tuple(reshape.target_shape) == (1, 1, wide[0])
    assert sizes(branch, "block5a_se_reduce")[0] < 28


@pytest.mark.slow
def test_a_dense_block_concatenates_what_is_there():
    branch = half("DenseNet121")
    start, *grown = sizes(branch, "pool1", *(f"conv2_block{n}_2_conv" for n in range(1, 7)))
    assert sizes(branch, "conv2_block6_concat") == [start + sum(grown)]


def test_a_scale_of_every_channel_and_a_depthwise_convolution_in_groups_follow_their_input():
    branch = half("ConvNeXtTiny")
    block = "convnext_tiny_stage_0_block_0_"
    (width,) = sizes(branch, "convnext_tiny_stem_conv")
    depthwise = branch.get_layer(f"{block}depthwise_conv")
    assert (depthwise.groups, depthwise.filters) == (width, width) and type(depthwise).__name__ == "GroupedConvolution"
    assert branch.get_layer(f"{block}layer_scale").projection_dim == width < 96


@pytest.mark.slow
def test_dropout_is_divided_by_the_root_of_the_number_of_branches():
    division = plan(network("EfficientNetV2B0"), 4)
    whole = [layer.rate for layer in network("EfficientNetV2B0").layers if isinstance(layer, keras.layers.Dropout)]
    layers = [layer for layer in weightless(division.build).layers if isinstance(layer, keras.layers.Dropout)]
    assert [layer.rate for layer in layers] == [pytest.approx(rate / 2) for rate in whole] and len(whole) == 16
    assert division.regularisation["top_dropout"] == [0.2, 0.1] or [0.2, 0.1] in division.regularisation.values()


def test_stochastic_depth_is_divided_like_dropout():
    from keras.src.applications.convnext import StochasticDepth

    x = keras.Input((8, 8, 8))
    y = StochasticDepth(0.3, name="drop")(keras.layers.Conv2D(8, 1)(x))
    division, branch = divided(keras.Model(x, keras.layers.Conv2D(8, 1)(keras.layers.Add()([x, y]))))
    assert branch.get_layer("drop").drop_path_rate == pytest.approx(0.3 / math.sqrt(2))
    assert division.regularisation == {"drop": [0.3, 0.3 / math.sqrt(2)]}
