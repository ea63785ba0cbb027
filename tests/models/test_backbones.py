"""ConvNeXt, RegNetY, Swin, PiT and XCiT against what is published of them; how they drop branches and are divided."""

import re

import keras
import numpy as np
import pytest

from dico_tf.cotrain.gradients import decays, exclude_gammas
from dico_tf.divide.networks.graph import weightless
from dico_tf.errors import UserError
from dico_tf.layers.stochastic_depth import droppings
from dico_tf.models import convnext, pit, regnet, swin, xcit
from dico_tf.models.presets import PRESETS
from tests.tiers import slow_but

FAMILIES = (convnext, regnet, swin, pit, xcit)
# preset: parameters with 1,000 classes, giga multiply-adds at 224 where they are published
SIZES = {
    "convnext_t": (28_589_128, None),
    "convnext_s": (50_223_688, None),
    "convnext_b": (88_591_464, 15.38),
    "convnext_l": (197_767_336, 34.40),
    "regnety_400mf": (4_344_144, 0.4),  # as its name says, and so on
    "regnety_800mf": (6_263_168, 0.8),
    "regnety_1_6gf": (11_202_430, None),
    "regnety_4gf": (20_646_656, 4.0),
    "regnety_8gf": (39_180_068, 8.0),
    "regnety_16gf": (83_590_140, 15.96),
    "swin_t": (28_288_354, 4.51),
    "swin_s": (49_606_258, None),
    "swin_b": (87_768_224, 15.47),
    "swin_l": (196_532_476, 34.53),
    "pit_ti": (4_847_272, None),
    "pit_xs": (10_618_888, None),
    "pit_s": (23_461_912, None),
    "pit_b": (73_764_840, 12.42),
    "xcit_s12_16": (26_253_304, 4.82),
    "xcit_s12_8": (26_213_032, 18.69),
    "xcit_s24_16": (47_671_384, 9.10),
    "xcit_m24_16": (84_395_752, 16.13),
    "xcit_l24_16": (189_096_136, 35.86),
}
TINY = [name for family in FAMILIES for name in family.PRESETS if PRESETS[name].tiny]


@pytest.mark.slow
@pytest.mark.parametrize("name", SIZES)
def test_sizes_are_the_published_ones(name):
    params, gmacs = SIZES[name]
    cost = PRESETS[name].cost(224, 1000)
    assert cost.params == params
    assert gmacs is None or cost.macs / 1e9 == pytest.approx(gmacs, rel=0.01)


def test_every_large_preset_has_its_size_tested():
    assert set(SIZES) | set(TINY) == {name for family in FAMILIES for name in family.PRESETS}


def _rates(model: keras.Model) -> list[float]:
    """Of every residual branch in the order of the graph; those that are never dropped are 0."""
    rates = {layer.name.removesuffix("_taken"): layer.rate for layer in droppings(model)}
    ends = [layer.name for layer in model.layers if layer.name.endswith(("_put_back", "_add"))]
    assert len(ends) - sum(name.endswith("_add") for name in ends) == len(rates)
    return [rates.get(name.removesuffix("_put_back"), 0.0) for name in ends]


def _rising(blocks: int, branches: int) -> list[float]:
    return [rate for rate in np.linspace(0, 0.3, blocks) for _ in range(branches)]


# preset: what its residual branches are dropped at where the rate is 0.3
SCHEDULES = {
    "regnety_16gf": _rising(18, 1),
    "pit_b": _rising(13, 2),
    "swin_b": _rising(24, 2),
    "convnext_b": _rising(36, 1),
    "xcit_s12_16": [0.3] * 36 + [0.0] * 4,  # those of the class token are never dropped
    "xcit_m24_16": [0.3] * 72 + [0.0] * 4,
}


@pytest.mark.parametrize("name", slow_but({"regnety_16gf", "pit_b", "xcit_s12_16"}, SCHEDULES))
def test_branches_are_dropped_as_the_family_publishes_it(name):
    preset = PRESETS[name].with_drop_path(0.3)
    rates = weightless(lambda: _rates(preset.build(224, 1000)))
    assert rates == pytest.approx(SCHEDULES[name])


@pytest.mark.parametrize("name", SIZES)
def test_every_preset_has_a_rate_of_its_own_that_submodels_can_differ_by(name):
    assert 0 < PRESETS[name].spec.drop_path <= 0.5


# tiny preset: how far from the budget its grid may stay, in hundredths; whole heads of few are a coarse grid
GRIDS = {"convnext_mini": 2, "regnety_tiny": 2, "swin_mini": 2, "pit_tiny": 2, "xcit_tiny": 2}


def _check_budget(name: str, size: int, splits: int, division: str, tolerance: float) -> None:
    whole = PRESETS[name]
    branch = whole.divided(splits, division, size, 100)
    paid, budget = (getattr(preset.cost(size, 100), division) for preset in (branch, whole))
    assert splits * paid / budget == pytest.approx(1, abs=tolerance), branch.spec
    assert branch.spec.drop_path == pytest.approx(whole.spec.drop_path / splits**0.5)


@pytest.mark.parametrize("name", slow_but(("convnext_mini",), GRIDS))
def test_branches_come_within_a_budget(name):
    splits, division = (4, "macs") if name in ("convnext_mini", "pit_tiny") else (2, "params")
    _check_budget(name, 32, splits, division, GRIDS[name] / 100)


BUDGETS = ["convnext_t", "convnext_b", "regnety_400mf", "regnety_16gf", "swin_t", "swin_b", "pit_s", "pit_b"]
BUDGETS += ["xcit_s12_16", "xcit_m24_16"]


@pytest.mark.slow
@pytest.mark.parametrize("name", BUDGETS)
@pytest.mark.parametrize("division", ["params", "macs"])
@pytest.mark.parametrize("splits", [2, 4])
def test_branches_of_published_networks_come_within_a_budget(name, splits, division):
    _check_budget(name, 224, splits, division, 0.02)


def test_branches_have_whole_heads_and_whole_groups():
    half = 0.5**0.5
    branch = swin.narrow(PRESETS["swin_b"].spec, half)
    assert branch.head_width == 32 and branch.heads == (3, 6, 11, 23)
    branch = pit.narrow(PRESETS["pit_b"].spec, half)
    assert branch.head_width == 64 and branch.heads == (3, 6, 12)
    branch = regnet.narrow(PRESETS["regnety_16gf"].spec, half)
    for layer in weightless(lambda: regnet.build(branch, 64, 3)).layers:
        if getattr(layer, "groups", 1) > 1:
            assert layer.filters == layer.groups * branch.group == layer.input.shape[-1]


def _weights(model: keras.Model) -> dict[str, np.ndarray]:
    return {f"{layer.name}/{v.name}": v.numpy() for layer in model.layers for v in layer.weights}


@pytest.mark.parametrize(
    ("name", "drawn"),
    [
        ("convnext_mini", {"stage1_block1_depthwise_conv/kernel": 0.02, "stage2_block1_dense1/kernel": 0.02}),
        ("swin_mini", {"stage2_block1_dense1/kernel": 0.02, "stage1_block1_attention_products/table": 0.02}),
        ("pit_tiny", {"stage2_block1_dense1/kernel": 1 / 288**0.5, "positions/table": 0.02}),  # U of the root of 1/96
        ("xcit_tiny", {"block1_dense1/kernel": 0.02, "block1_local_conv1/kernel": 1 / 27**0.5}),
        ("regnety_tiny", {"stage2_block2_conv2/kernel": (2 / 9 / 64) ** 0.5, "logits/kernel": 0.01}),
    ],
)
def test_weights_start_as_published(name, drawn):
    keras.utils.set_random_seed(0)
    result = _weights(PRESETS[name].build(32, 10))
    for key, deviation in drawn.items():
        few = 4 / (2 * result[key].size) ** 0.5  # four deviations of the deviation
        assert result[key].std() == pytest.approx(deviation, rel=max(few, 0.02)), key


# tiny preset: what does not decay though it is no vector, without the numbers of stages and blocks
SPARED = {
    "vit_tiny": {"positions/table"},
    "convnext_mini": set(),
    "regnety_tiny": set(),
    "swin_mini": {"stage_block_attention_products/table"},
    "pit_tiny": {"positions/table"},
    "xcit_tiny": {"positions/kernel", "block_attention_products/temperature"},
}


@pytest.mark.parametrize("name", SPARED)
def test_kernels_decay_and_neither_vectors_nor_places_do(name):
    def parted() -> dict[bool, dict[str, int]]:
        network, result = PRESETS[name].build(32, 3), {True: {}, False: {}}
        exclude_gammas(network)
        for variable in network.trainable_variables:
            result[decays(variable)]["/".join(variable.path.split("/")[-2:])] = len(variable.shape)
        return result

    result = weightless(parted)
    assert {key.split("/")[1] for key in result[True]} == {"kernel"} and min(result[True].values()) > 1
    spared = {re.sub(r"(stage|block)\d+", r"\1", key) for key, rank in result[False].items() if rank > 1}
    assert spared == SPARED[name]


def test_scales_start_small_in_deep_networks_and_final_gammas_of_regnets_at_zero():
    assert PRESETS["convnext_b"].spec.layer_scale == 1e-6
    starts = {name: PRESETS[name].spec.layer_scale for name in xcit.PRESETS}
    assert starts == {
        "xcit_tiny": 1,
        "xcit_s12_16": 1,
        "xcit_s12_8": 1,
        "xcit_s24_16": 1e-5,
        "xcit_m24_16": 1e-5,
        "xcit_l24_16": 1e-5,
    }
    result = _weights(PRESETS["regnety_tiny"].build(32, 3))
    assert not result["stage2_block2_norm3/gamma"].any() and result["stage2_block2_norm2/gamma"].all()


def test_norms_have_the_published_epsilons():
    expected = {"convnext_mini": {1e-6}, "swin_mini": {1e-5}, "pit_tiny": {1e-6}, "xcit_tiny": {1e-6, 1e-5}}
    for name, epsilons in {**expected, "regnety_tiny": {1e-5}}.items():
        layers = PRESETS[name].build(32, 3).layers
        assert {layer.epsilon for layer in layers if hasattr(layer, "epsilon")} == epsilons, name


def test_a_regnety_of_16_gigaflops_is_laid_out_as_published():
    spec = PRESETS["regnety_16gf"].spec
    assert (spec.blocks, spec.planes, spec.group) == ((2, 4, 11, 1), (224, 448, 1232, 3024), 112)


@pytest.mark.parametrize(
    ("name", "side", "message"),
    [
        ("convnext_t", 200, r"image_size=200 does not divide into squares of 32x32 .*give --image_size=192 or 224"),
        ("swin_t", 222, r"image_size=222 does not divide into patches of 4x4 pixels: give --image_size=220 or 224"),
        ("pit_b", 220, r"image_size=220 does not divide into patches of 14x14 .*give --image_size=217 or 224"),
        ("pit_b", 7, r"image_size=7 is too small for patches of .*: give at least --image_size=14"),
        ("xcit_s12_16", 100, r"image_size=100 does not divide into patches of 16x16 pixels: give .*=96 or 112"),
    ],
)
def test_pictures_that_patches_do_not_divide_are_refused(name, side, message):
    with pytest.raises(UserError, match=message):
        PRESETS[name].build(side, 3)


def test_swin_pads_maps_that_windows_do_not_divide():
    layers = [layer.name for layer in PRESETS["swin_mini"].build(36, 3).layers]
    padded = [name for name in layers if name.endswith("_attention_pad")]
    assert padded == [f"stage{i}_block{j}_attention_pad" for i in (1, 2) for j in (1, 2)]
    assert not [layer for layer in PRESETS["swin_mini"].build(32, 3).layers if layer.name.endswith("_pad")]
