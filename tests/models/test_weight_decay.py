"""Weight decay by preset, optimizer and image size, and how it is divided."""

import math

import pytest

from dico_tf import config
from dico_tf.models.family import divided_weight_decay
from dico_tf.models.presets import branch_weight_decay, whole_weight_decay


def test_weight_decay_divides_by_the_three_rules():
    assert divided_weight_decay(5e-4, 4, "none") == 5e-4
    assert divided_weight_decay(5e-4, 4, "linear") == 1.25e-4
    factors = [divided_weight_decay(1.0, s, "exp") for s in (1, 2, 4, 8)]
    assert factors == pytest.approx([1.0, 0.60653, 0.47237, 0.41686], abs=5e-6)
    assert divided_weight_decay(1.0, 2, "exp") == math.exp(-0.5)


@pytest.mark.parametrize(
    ("model", "image_size", "decay"),
    [
        ("wrn_28_10", 32, 5e-4), ("wrn_16_8", 32, 1e-4), ("resnext_29_8x64d", 32, 5e-4), ("se_resnet_164", 32, 1e-4),
        ("efficientnet_b0", 32, 1e-4), ("efficientnet_b3", 32, 5e-4), ("efficientnet_b3", 224, 1e-5),
        ("efficientnet_b7", 320, 1e-5), ("resnet_50", 224, 5e-5), ("resnext_101_64x4d", 224, 1e-4),
    ],
)  # fmt: skip
def test_weight_decay_is_the_published_one_unless_given(model, image_size, decay):
    settings = {"model": model, "splits": 2, "weight_decay_division": "exp"}
    assert whole_weight_decay(config.from_values(settings), image_size) == decay
    given = config.from_values({**settings, "weight_decay": 0.01})
    assert branch_weight_decay(given, image_size) == pytest.approx(0.01 * math.exp(-0.5))


@pytest.mark.parametrize("optimizer", ["adamw", "lamb", "sgd"])
@pytest.mark.parametrize(
    ("model", "decoupled", "coupled"),
    [
        ("vit_b_16", 0.05, 1e-4), ("convnext_mini", 0.05, 1e-4), ("swin_t", 0.05, 1e-4), ("pit_s", 0.05, 1e-4),
        ("xcit_s12_16", 0.05, 1e-4), ("regnety_16gf", 0.05, 1e-4), ("upernet_vit_b_16", 0.05, 1e-4),
        ("upernet_swin_t", 0.05, 1e-4), ("upernet_convnext_t", 0.05, 1e-4), ("wrn_28_10", 5e-4, 5e-4),
        ("torch_efficientnet_b0", 1e-5, 1e-5), ("x3d_s", 5e-5, 5e-5), ("mine.keras", 1e-4, 1e-4),
    ],
)  # fmt: skip
def test_a_recipe_with_adamw_or_lamb_decays_as_the_transformers_do(model, optimizer, decoupled, coupled):
    options = config.from_values({"model": model, "optimizer": optimizer})
    assert whole_weight_decay(options, 224) == (coupled if optimizer == "sgd" else decoupled)
