"""Vision transformers against the sizes that are published of them, and how they are divided."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from dico_tf.divide.networks.graph import weightless
from dico_tf.errors import UserError
from dico_tf.layers.stochastic_depth import droppings
from dico_tf.models import vit
from dico_tf.models.presets import PRESETS
from tests.tiers import slow_but

# preset: parameters with 1,000 classes, giga multiply-adds at 224 where they are published
SIZES = {
    "vit_s_16": (22_059_496, 4.61),
    "vit_m_16": (38_849_512, 8.00),
    "vit_b_16": (86_585_320, 17.58),
    "vit_l_16": (304_374_760, 61.60),
    "vit_h_14": (632_126_440, 167.40),
    "vit_s_16_plain": (22_050_664, None),
    "vit_b_16_plain": (86_567_656, None),
    "vit_l_16_plain": (304_326_632, None),
    "vit_h_14_plain": (632_045_800, None),
}


@pytest.mark.parametrize("name", slow_but(("vit_s_16",), SIZES))
def test_sizes_are_the_published_ones(name):
    params, gmacs = SIZES[name]
    cost = PRESETS[name].cost(224, 1000)
    assert cost.params == params
    assert gmacs is None or cost.macs / 1e9 == pytest.approx(gmacs, rel=0.003)


def test_every_large_preset_has_its_size_tested():
    assert set(SIZES) == set(vit.PRESETS) - {"vit_tiny"}


@pytest.mark.parametrize(("side", "params", "gmacs"), [(384, 86_877_160, 55.54), (448, 87_036_904, 78.5)])
def test_larger_pictures_have_more_places_and_cost_more(side, params, gmacs):
    cost = PRESETS["vit_b_16"].cost(side, 1000)
    assert cost.params == params
    assert cost.macs / 1e9 == pytest.approx(gmacs, rel=0.003)


@pytest.mark.parametrize(
    ("name", "side", "params", "gmacs"),
    [
        ("vit_b_16_plain", 224, 86_567_656, 17.56),
        ("vit_b_16_plain", 384, 86_859_496, 55.48),
        ("vit_l_16_plain", 224, 304_326_632, 61.56),
        ("vit_l_16_plain", 384, 304_715_752, 191.07),
    ],
)
def test_members_of_published_cascades_cost_what_was_counted(name, side, params, gmacs):
    cost = PRESETS[name].cost(side, 1000)
    assert cost.params == params and cost.macs / 1e9 == pytest.approx(gmacs, rel=1e-3)


def test_attention_is_counted_with_both_of_its_products():
    depth, width, tokens, classes = 4, 64, 65, 10
    blocks = depth * (12 * width**2 * tokens + 2 * tokens**2 * width)
    assert PRESETS["vit_tiny"].cost(32, classes).macs == blocks + 64 * 48 * width + width * classes


def test_every_branch_of_a_vit_is_dropped_at_the_same_rate():
    for name, count in (("vit_tiny", 8), ("vit_s_16", 24), ("vit_l_16", 48), ("vit_h_14", 64)):
        spec = PRESETS[name].spec
        assert 2 * spec.depth == count
    rates = [layer.rate for layer in droppings(PRESETS["vit_tiny"].with_drop_path(0.3).build(32, 7))]
    assert rates == [0.3] * 8


_SLOW = [pytest.param(*pair, marks=pytest.mark.slow) for pair in (("vit_l_16", 48), ("vit_h_14", 64))]


@pytest.mark.parametrize(("name", "count"), [("vit_s_16", 24), *_SLOW])
def test_attention_and_mlp_of_every_block_are_dropped_by_draws_of_their_own(name, count):
    preset = PRESETS[name]
    rates = weightless(lambda: [layer.rate for layer in droppings(preset.build(224, 1000))])
    assert rates == [preset.spec.drop_path] * count


def test_weights_start_as_published():
    keras.utils.set_random_seed(0)
    network = PRESETS["vit_tiny"].build(32, 7)
    result = {f"{layer.name}/{v.name}": v.numpy() for layer in network.layers for v in layer.weights}
    for name in ("block1_attention_qkv/kernel", "block4_dense1/kernel", "positions/table"):
        assert result[name].std() == pytest.approx(0.02, rel=0.05), name
        assert abs(result[name].mean()) < 0.001, name
    assert np.all(result["block2_scale1/scale"] == np.float32(1e-4))
    biases = [value for name, value in result.items() if name.endswith("bias") and not name.startswith("patches")]
    assert all(np.all(bias == 0) for bias in biases)
    assert all(layer.epsilon == 1e-6 for layer in network.layers if "norm" in layer.name and layer.name != "normalise")


def test_a_block_is_its_formula():
    keras.utils.set_random_seed(1)
    spec = PRESETS["vit_tiny"].spec
    x = keras.Input((5, spec.width))
    network = keras.Model(x, vit.block(x, spec, "b"))
    w = {}
    for layer in network.layers:
        for v in layer.weights:
            v.assign(v + np.random.default_rng(len(w)).normal(0, 0.3, v.shape))
            w[f"{layer.name}/{v.name}"] = v.numpy().astype(np.float64)
    value = np.random.default_rng(9).normal(size=(2, 5, spec.width))

    def norm(y, name):
        scaled = (y - y.mean(-1, keepdims=True)) / np.sqrt(y.var(-1, keepdims=True) + 1e-6)
        return scaled * w[f"{name}/gamma"] + w[f"{name}/beta"]

    def dense(y, name):
        return y @ w[f"{name}/kernel"] + w[f"{name}/bias"]

    q, k, v = np.split(dense(norm(value, "b_norm1"), "b_attention_qkv"), 3, axis=-1)
    heads = []
    for h in range(spec.heads):
        part = slice(h * spec.head_width, (h + 1) * spec.head_width)
        scores = q[..., part] @ k[..., part].transpose(0, 2, 1) / np.sqrt(spec.head_width)
        weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
        heads.append(weights @ v[..., part])
    after = value + w["b_scale1/scale"] * dense(np.concatenate(heads, -1), "b_attention_projection")
    hidden = dense(norm(after, "b_norm2"), "b_dense1")
    hidden = hidden * 0.5 * (1 + tf.math.erf(hidden / np.sqrt(2)).numpy())
    after = after + w["b_scale2/scale"] * dense(hidden, "b_dense2")
    assert np.asarray(network(value)) == pytest.approx(after, abs=1e-4)


def test_the_class_token_has_a_place_only_in_plain_ones():
    plain, scaled = (PRESETS[name].with_drop_path(0.1) for name in ("vit_s_16_plain", "vit_s_16"))
    assert [layer.placed for layer in _small(plain).layers if layer.name == "class_token"] == [True]
    assert [layer.placed for layer in _small(scaled).layers if layer.name == "class_token"] == [False]


def _small(preset):
    spec = dataclasses.replace(preset.spec, depth=1, heads=1, hidden=0)
    return vit.build(spec, 32, 3)


def test_pictures_that_patches_do_not_divide_are_refused():
    with pytest.raises(UserError, match=r"image_size=30 does not divide into patches of 4x4 pixels: give .*28 or 32"):
        PRESETS["vit_tiny"].build(30, 7)
    with pytest.raises(UserError, match=r"image_size=8 does not divide into patches of 16x16 pixels: give .*=16"):
        PRESETS["vit_s_16"].build(8, 7)
    assert _small(PRESETS["vit_h_14"]).get_layer("positions").table.shape == (2, 2, 80)  # as published: pixels are left


def test_nothing_is_published_of_dividing_one():
    with pytest.raises(UserError, match="no paper divides a vision transformer into 2 branches; give --division"):
        PRESETS["vit_b_16"].divided(2)


BUDGETS = [("vit_s_16", 2), ("vit_b_16", 3), ("vit_b_16", 8), ("vit_h_14", 4)]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "splits"), BUDGETS)
@pytest.mark.parametrize("division", ["params", "macs"])
def test_whole_heads_divide_it_within_a_budget(name, splits, division):
    whole = PRESETS[name]
    branch = whole.divided(splits, division, 224, 1000)
    paid, budget = (getattr(preset.cost(224, 1000), division) for preset in (branch, whole))
    assert splits * paid / budget == pytest.approx(1, abs=0.02)
    assert branch.spec.head_width == whole.spec.head_width and branch.spec.heads < whole.spec.heads
    assert whole.differences([branch])[0]["hidden"] == [4 * whole.spec.width, branch.spec.hidden]
    assert branch.spec.drop_path == pytest.approx(whole.spec.drop_path / splits**0.5)
