"""DeepLabV3: the sheet's parameters and multiply-adds, dilation instead of strides, and what only training has."""

import dataclasses

import keras
import numpy as np
import pytest

from dico_tf.divide.networks.cost import cost
from dico_tf.divide.networks.graph import weightless
from dico_tf.errors import UserError
from dico_tf.models import deeplab
from dico_tf.models.deeplab import Spec
from dico_tf.models.presets import PRESETS
from tests.tiers import slow_but

# classes: trainable parameters without and with the auxiliary head, of torchvision's structure
PARAMETERS = {
    ("50", 19): (39_638_355, 42_003_046),
    ("50", 21): (39_638_869, 42_004_074),
    ("101", 19): (58_630_483, 60_995_174),
    ("101", 21): (58_630_997, 60_996_202),
}
STATISTICS = {"50": (56_704, 57_216), "101": (108_928, 109_440)}
# giga multiply-adds of 19 classes without the auxiliary head, at output strides 16 and 8
SIDES = ((1024, 2048), (1025, 2049), (769, 769), (513, 513))
GMACS = {
    "50": ((387.2, 395.2, 112.9, 51.1), (1308.6, 1323.8, 375.6, 168.7)),
    "101": ((542.4, 554.0, 158.4, 71.7), (1929.2, 1951.7, 553.8, 248.7)),
}
SMALL = Spec(blocks=(1, 1, 3, 2), width=8)


def _named(depth: str, stride: int = 16):
    return PRESETS[f"deeplabv3_resnet_{depth}{'_os8' if stride == 8 else ''}"]


@pytest.mark.parametrize(("depth", "classes"), slow_but(list(PARAMETERS)[:1], PARAMETERS))
def test_parameters_are_torchvisions_to_the_unit(depth, classes):
    for stride in (16, 8):
        preset = _named(depth, stride)

        def both(preset=preset):
            branch = preset.build((None, None), classes)
            return cost(branch), cost(deeplab.learner(preset.spec, branch))

        branch, learner = weightless(both)
        assert (branch.params, learner.params) == PARAMETERS[depth, classes]
        assert (branch.running, learner.running) == STATISTICS[depth]


def _check_gmacs(depth: str, column: int) -> None:
    for stride, row in zip((16, 8), GMACS[depth], strict=True):
        result = _named(depth, stride).cost(SIDES[column], 19).macs / 1e9
        assert result == pytest.approx(row[column], rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("depth", "column"), [("50", 0), ("101", 1)])
def test_multiply_adds_are_those_of_the_sheet(depth, column):
    _check_gmacs(depth, column)


@pytest.mark.slow
@pytest.mark.parametrize("column", range(len(SIDES)))
@pytest.mark.parametrize("depth", GMACS)
def test_multiply_adds_of_every_size_are_those_of_the_sheet(depth, column):
    _check_gmacs(depth, column)


def _randomised(model: keras.Model) -> None:
    """Every weight and statistic drawn, so that no gamma of 0 hides a block."""
    draw = np.random.default_rng(0)
    for variable in model.variables:
        if variable.name in ("kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance"):
            spread = draw.normal(0, 0.3, variable.shape)
            variable.assign(1 + 0.5 * np.tanh(spread) if variable.name in ("gamma", "moving_variance") else spread)


def _backbone(spec: Spec) -> keras.Model:
    image = keras.Input((None, None, 3), name="image")
    return keras.Model(image, deeplab.backbone(image, spec))


@pytest.fixture
def float64():
    before = keras.config.dtype_policy(), keras.config.floatx()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx(before[1])
    keras.config.set_dtype_policy(before[0])


@pytest.mark.parametrize("sides", [(65, 97), *(pytest.param(s, marks=pytest.mark.slow) for s in ((64, 64), (50, 75)))])
def test_a_dilated_backbone_sees_what_the_striding_one_sees_and_more(float64, sides):
    image = np.random.default_rng(1).normal(size=(2, *sides, 3))
    models = {s: _backbone(dataclasses.replace(SMALL, output_stride=s)) for s in (32, 16, 8)}
    _randomised(models[32])
    for stride in (16, 8):
        models[stride].set_weights(models[32].get_weights())
    seen = {stride: np.asarray(model(image)) for stride, model in models.items()}
    assert np.abs(seen[32]).max() > 1e-3
    for stride, step in ((16, 2), (8, 4)):
        result = seen[stride][:, ::step, ::step]
        assert result.shape == seen[32].shape
        assert np.abs(result - seen[32]).max() < 1e-12 * np.abs(seen[32]).max()


def test_the_first_block_of_a_stage_that_does_not_stride_keeps_the_dilation_before():
    assert [[d for _, d in stage] for stage in deeplab.strides_and_dilations(_named("50").spec)][2:] == [
        [1] * 6,
        [1, 2, 2],
    ]
    os8 = [[d for _, d in stage] for stage in deeplab.strides_and_dilations(_named("50", 8).spec)]
    assert os8[2:] == [[1, 2, 2, 2, 2, 2], [2, 4, 4]]


def test_multi_grid_is_off_unless_asked_for_and_multiplies_the_last_stage():
    for stride, rates in ((16, [2, 4, 8]), (8, [4, 8, 16])):
        spec = dataclasses.replace(_named("50", stride).spec, multi_grid=(1, 2, 4))
        assert [d for _, d in list(deeplab.strides_and_dilations(spec))[3]] == rates
    assert all(not preset.spec.multi_grid for preset in PRESETS.values() if preset.family is deeplab.FAMILY)
    with pytest.raises(UserError, match="expected a factor for each of the 3 blocks of the last stage"):
        dataclasses.replace(_named("50").spec, multi_grid=(1, 2))
    with pytest.raises(UserError, match="8, 16 or 32"):
        Spec(blocks=(1, 1, 1, 1), output_stride=4)


@pytest.mark.parametrize("sides", [(513, 513), (769, 769), (1024, 2048)])
def test_answers_are_as_large_as_pictures(sides):
    for stride in (16, 8):
        spec = dataclasses.replace(SMALL, output_stride=stride)
        assert weightless(lambda spec=spec: deeplab.build(spec, sides, 19).output_shape) == (None, *sides, 19)


def test_output_strides_exchange_weights_and_pictures_may_have_any_size():
    one, other = (deeplab.build(dataclasses.replace(SMALL, output_stride=s), (None, None), 5) for s in (16, 8))
    _randomised(one)
    other.set_weights(one.get_weights())
    named = [[layer.name for layer in model.layers if layer.variables] for model in (one, other)]
    assert named[0] == named[1]
    for sides in ((33, 47), (40, 64)):
        picture = np.full((1, *sides, 3), 90.0, np.float32)
        assert one(picture).shape == other(picture).shape == (1, *sides, 5)


def test_the_second_head_is_training_s_alone():
    preset = PRESETS["deeplabv3_tiny"]
    branch = preset.build(64, 5)
    learner = deeplab.learner(preset.spec, branch)
    only_there = {layer.name for layer in learner.layers} - {layer.name for layer in branch.layers}
    assert {name for name in only_there if name.startswith(("auxiliary", "logits"))} == only_there
    assert cost(branch) == preset.cost(64, 5)
    # the output's resizing is the only layer that training leaves out
    assert {layer.name for layer in branch.layers} - {layer.name for layer in learner.layers} == {
        "as_large_as_the_picture"
    }


def test_widths_follow_the_resnets():
    widths = {s: PRESETS["deeplabv3_resnet_50"].divided(s).spec for s in (1, 2, 4, 8)}
    assert {s: (spec.width, spec.head, spec.dropout) for s, spec in widths.items()} == {
        1: (64, 256, 0.5),
        2: (44, 176, 0.25),
        4: (32, 128, 0.125),
        8: (24, 96, 0.0625),
    }
    assert [PRESETS["deeplabv3_small"].divided(s).spec.width for s in (2, 4)] == [16, 12]
    with pytest.raises(UserError, match="published: 1, 2, 4 and 8"):
        PRESETS["deeplabv3_resnet_50"].divided(3)


@pytest.mark.parametrize("division", ["params", "macs"])
def test_a_budget_is_met_by_any_number_of_branches(division):
    whole = PRESETS["deeplabv3_resnet_50"]
    branch = whole.divided(3, division, 513, 21)
    assert 3 * getattr(branch.cost(513, 21), division) == pytest.approx(
        getattr(whole.cost(513, 21), division), rel=0.02
    )
