"""Counted parameters and multiply-adds of the published CIFAR rows, and the goldens of every preset."""

import json

import pytest

from dico_tf import config
from dico_tf.errors import UserError
from dico_tf.models import audit
from dico_tf.models.menu import PRESETS
from tests.models.write_goldens import PATH, entries, entry

# model, S: total parameters and multiply-adds (G) on CIFAR-100, then parameters on CIFAR-10 where published
PUBLISHED = [
    ("resnet_110", 1, 1_170_868, 0.167, None),
    ("resnet_110", 2, 1_333_472, 0.189, None),
    ("resnet_110", 4, 1_214_256, 0.168, None),
    ("resnet_164", 1, 1_727_284, 0.248, None),
    ("resnet_164", 2, 1_962_464, 0.279, None),
    ("resnet_164", 4, 1_778_736, 0.248, None),
    ("wrn_16_8", 1, 11_009_332, 1.548, None),
    ("wrn_16_8", 2, 12_416_232, 1.750, None),
    ("wrn_16_8", 4, 11_091_664, 1.571, None),
    ("wrn_28_10", 1, 36_539_124, 5.243, 36_481_434),
    ("wrn_28_10", 2, 35_855_016, 5.150, 35_774_196),
    ("wrn_28_10", 4, 36_650_576, 5.271, 36_535_016),
    ("wrn_40_10", 1, 55_901_684, 8.075, 55_843_994),
    ("wrn_40_10", 2, 54_834_088, 7.925, None),
    ("wrn_40_10", 4, 56_022_096, 8.102, 55_906_536),
]


@pytest.mark.parametrize(("model", "splits", "params", "gmacs", "params_10"), PUBLISHED)
def test_published_rows_are_met_to_the_last_parameter(model, splits, params, gmacs, params_10):
    branch = audit.count(PRESETS[model].divided(splits), 32, 100)
    assert splits * branch.params == params
    assert splits * branch.macs / 1e9 == pytest.approx(gmacs, rel=0.005)
    if params_10:
        assert splits * audit.count(PRESETS[model].divided(splits), 32, 10).params == params_10


def test_every_division_is_as_its_golden_says():
    assert [entry(model, splits) for model, splits in entries()] == json.loads(PATH.read_text())["divisions"]


@pytest.mark.parametrize("name", list(PRESETS))
def test_dividing_by_one_changes_nothing(name):
    assert PRESETS[name].divided(1) == PRESETS[name]


def test_dropout_is_divided_with_the_network():
    report = audit.one(config.from_values({"model": "wrn_40_10", "splits": 4, "dataset": "cifar100"}))
    assert report["regularisation"] == {"dropout": [0.1, 0.025]}
    assert report["changes"] == {"width": [10, 5]}
    assert report["total_params"] == 4 * report["branches"][0]["params"] == 56_022_096
    assert report["weight_decay"] == {"whole": 5e-4, "branch": 5e-4, "rule": "none"}


def test_an_unpublished_number_of_splits_is_refused():
    with pytest.raises(UserError, match="published: 1, 2, 4, 8 and 16"):
        PRESETS["resnet_110"].divided(3)


def test_an_unknown_model_is_answered_with_a_suggestion():
    with pytest.raises(UserError, match="did you mean wrn_28_10"):
        PRESETS["wrn_28_1O"]


def test_a_data_set_without_a_known_shape_asks_for_one():
    with pytest.raises(UserError, match="give --image_size and --classes"):
        audit.one(config.from_values({"dataset": "mine"}))
    given = config.from_values({"dataset": "mine", "image_size": 32, "classes": 3, "model": "wrn_tiny"})
    assert audit.one(given)["classes"] == 3
