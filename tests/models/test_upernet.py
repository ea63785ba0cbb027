"""UPerNet: levels of every backbone, parameters counted by hand, and a division of backbone and head together."""

import keras
import pytest

from dico_tf.divide.networks.graph import weightless
from dico_tf.errors import UserError
from dico_tf.models import segmentation, upernet
from dico_tf.models.presets import PRESETS

ALL = [name for name in PRESETS if PRESETS[name].family is upernet.FAMILY]
WIDTHS = {"swin_t": (96, 192, 384, 768), "convnext_t": (96, 192, 384, 768), "vit_b_16": (768,) * 4}
SMALL = {"upernet_vit_tiny": 4, "upernet_swin_mini": 2, "upernet_convnext_mini": 2}


def sizes(name: str, size: int) -> list[tuple[int, int]]:
    """(side, channels) of each level."""
    spec = PRESETS[name].spec
    image = keras.Input((size, size, 3))
    return [(x.shape[1], x.shape[-1]) for x in upernet.levels(image, spec)]


@pytest.mark.parametrize("backbone", WIDTHS)
def test_levels_lie_at_4_8_16_and_32_pixels(backbone):
    result = weightless(lambda: sizes(f"upernet_{backbone}", 128))
    assert result == list(zip((32, 16, 8, 4), WIDTHS[backbone], strict=True))


def test_tiny_backbones_have_the_levels_they_can():
    assert sizes("upernet_vit_tiny", 64) == [(16, 64), (8, 64), (4, 64), (2, 64)]
    assert sizes("upernet_swin_mini", 64) == [(32, 32), (16, 64)]
    assert sizes("upernet_convnext_mini", 64) == [(32, 48), (16, 96)]


def head(widths: tuple[int, ...], wide: int, classes: int) -> int:
    """Weights after the backbone's maps; a unit has a kernel and two numbers a channel."""

    def unit(inputs: int, kernel: int) -> int:
        return kernel * kernel * inputs * wide + 2 * wide

    *finer, coarsest = widths
    pooled = 4 * unit(coarsest, 1) + unit(coarsest + 4 * wide, 3)
    top_down = sum(unit(width, 1) + unit(wide, 3) for width in finer)
    return pooled + top_down + unit(len(widths) * wide, 3) + wide * classes + classes


def backbone(name: str) -> int:
    """Of a classifier without what follows its blocks: a norm and ten logits."""
    spec = PRESETS[name].spec
    last = spec.widths[-1] if hasattr(spec, "widths") else spec.width
    return PRESETS[name].cost(224, 10).params - 2 * last - 10 * last - 10


@pytest.mark.slow
@pytest.mark.parametrize("name", WIDTHS)
def test_parameters_are_the_backbone_s_and_those_of_the_head(name):
    widths = WIDTHS[name]
    own = 2 * sum(widths)  # a norm of each level
    if name == "vit_b_16":  # three transposed 2x2 with biases, and a norm between the two of the finest
        own = 3 * (4 * 768 * 768 + 768) + 2 * 768
    assert PRESETS[f"upernet_{name}"].cost(512, 150).params == head(widths, 512, 150) + own + backbone(name) + (
        (32 * 32 - 14 * 14) * 768 if name == "vit_b_16" else 0
    )


@pytest.mark.parametrize("name", SMALL)
def test_the_second_head_sees_the_level_before_the_last_and_is_training_s_alone(name):
    preset = PRESETS[name]

    def built():
        branch = preset.build(64, 5)
        return branch, upernet.learner(preset.spec, branch), segmentation.coarse(branch)

    branch, learner, coarse = weightless(built)
    only_there = {layer.name for layer in learner.layers} - {layer.name for layer in branch.layers}
    assert only_there and all(name.startswith(("auxiliary", "logits_")) for name in only_there)
    first, second = learner.outputs
    side = 64 // SMALL[name]
    assert first.shape == coarse.output_shape == (None, side, side, 5) and preset.spec.output_stride == SMALL[name]
    coarser = 4 if name == "upernet_vit_tiny" else side
    assert second.shape == (None, coarser, coarser, 5)
    assert branch.output_shape == (None, 64, 64, 5)


def test_every_pixel_has_a_logit_of_each_of_150_classes():
    network = weightless(lambda: PRESETS["upernet_vit_tiny"].build((32, 64), 150))
    assert network.output_shape == (None, 32, 64, 150)


@pytest.mark.parametrize("name", SMALL)
def test_the_backbone_is_named_as_in_its_classifier(name):
    """So that a classifier's weights find their layers."""
    preset = PRESETS[name]

    def named(network):
        return {
            (layer.name, v.name, tuple(v.shape)) for layer in network.layers for v in layer.variables if layer.weights
        }

    both = weightless(lambda: (named(preset.build(32, 5)), named(PRESETS[preset.classifier].build(32, 5))))
    new = {layer for layer, *_ in both[0] - both[1]}
    assert new and all(layer.startswith(preset.heads) for layer in new)
    assert {layer for layer, *_ in both[1] - both[0]} == {"norm", "logits"}


@pytest.mark.slow
def test_a_budget_narrows_backbone_and_head_together():
    whole = PRESETS["upernet_vit_tiny"]
    branch = whole.divided(2, "params", 128, 11)
    assert 2 * branch.cost(128, 11).params == pytest.approx(whole.cost(128, 11).params, rel=0.02)
    assert branch.spec.backbone.heads < whole.spec.backbone.heads and branch.spec.head < whole.spec.head
    changes, rates = whole.differences([branch])
    assert set(changes) == {"heads", "hidden", "head"}
    assert rates == {"dropout": [0.1, 0.05], "drop_path": [0.2, pytest.approx(0.2 / 2**0.5)]}


def test_drop_rates_are_those_asked_for_and_the_backbone_s_own_otherwise():
    for name in ALL:
        assert PRESETS[name].spec.drop_path == PRESETS[PRESETS[name].classifier].spec.drop_path
    result = weightless(lambda: PRESETS["upernet_swin_mini"].with_drop_path(0.6).build(32, 5))
    assert max(layer.rate for layer in result.layers if layer.name.endswith("_taken")) == pytest.approx(0.6)


def test_multiply_adds_of_a_picture_are_those_of_its_windows():
    preset, other = PRESETS["upernet_vit_tiny"], PRESETS["deeplabv3_tiny"]
    one = preset.cost(32, 5).macs
    assert [preset.macs(sides, 5, 32) for sides in ((32, 32), (20, 32), (48, 64))] == [one, one, 6 * one]
    assert other.macs((48, 64), 5, 32) == other.cost((48, 64), 5).macs


def test_sizes_that_patches_do_not_divide_are_refused():
    for name, size, message in (
        ("vit_tiny", 30, "28 or 32"),
        ("swin_mini", 31, "30 or 32"),
        ("convnext_mini", 30, "28 or"),
    ):
        assert not PRESETS[f"upernet_{name}"].accepts(size)
        with pytest.raises(UserError, match=f"image_size={size} does not divide .*{message}"):
            PRESETS[f"upernet_{name}"].build(size, 5)
    assert PRESETS["upernet_swin_t"].spec.side_step == 4
    assert PRESETS["upernet_convnext_t"].spec.side_step == 32
