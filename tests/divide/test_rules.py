import math

import pytest

from dico_tf import config
from dico_tf.divide import rules, weight_decay
from dico_tf.errors import UserError


def test_root_floors_after_its_offset():
    assert [rules.root(10, s, 0.4) for s in (1, 2, 4, 8, 16)] == [10, 7, 5, 3, 2]
    assert [rules.root(8, s, 0.4) for s in (1, 2, 4, 8, 16)] == [8, 6, 4, 3, 2]


def test_evenly_refuses_what_leaves_a_rest():
    assert rules.evenly(64, 4, "groups") == 16
    message = "groups=8 cannot be divided evenly into 3 branches; use 2, 4 or 8, or --division=params"
    with pytest.raises(UserError, match=message):
        rules.evenly(8, 3, "groups")
    with pytest.raises(UserError, match="groups=1 cannot be divided evenly into 2 branches; use --division=params"):
        rules.evenly(1, 2, "groups")


def test_lookup_names_what_is_published():
    with pytest.raises(UserError, match="no published division by --splits=3; published: 1, 2 and 4"):
        rules.lookup({1: 16, 2: 12, 4: 8}, 3, "resnet")


def test_weight_decay_divides_by_the_three_rules():
    assert weight_decay.divided(5e-4, 4, "none") == 5e-4
    assert weight_decay.divided(5e-4, 4, "linear") == 1.25e-4
    factors = [weight_decay.divided(1.0, s, "exp") for s in (1, 2, 4, 8)]
    assert factors == pytest.approx([1.0, 0.60653, 0.47237, 0.41686], abs=5e-6)
    assert weight_decay.divided(1.0, 2, "exp") == math.exp(-0.5)


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
    assert weight_decay.of_whole(config.from_values(settings), image_size) == decay
    given = config.from_values({**settings, "weight_decay": 0.01})
    assert weight_decay.of_branch(given, image_size) == pytest.approx(0.01 * math.exp(-0.5))


def test_transformers_decay_as_published_where_decay_is_decoupled():
    result = {}
    for optimizer in ("lamb", "adamw", "sgd"):
        for model in ("vit_b_16", "convnext_mini", "upernet_vit_b_16", "wrn_28_10"):
            settings = config.from_values({"model": model, "optimizer": optimizer})
            result[model, optimizer] = weight_decay.of_whole(settings, 224)
    assert {result[model, name] for model in ("vit_b_16", "convnext_mini") for name in ("lamb", "adamw")} == {0.05}
    assert result["vit_b_16", "sgd"] == result["upernet_vit_b_16", "lamb"] == 1e-4
    assert {result["wrn_28_10", name] for name in ("lamb", "adamw", "sgd")} == {5e-4}
