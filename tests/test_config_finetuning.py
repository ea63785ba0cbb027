"""Settings of fine-tuning: what may be frozen, and when."""

import pytest

from dico_tf.config import from_values
from tests.test_config import fault


@pytest.mark.parametrize("freeze", ["none", "backbone", "1", "12"])
def test_a_backbone_is_frozen_for_some_epochs_or_all(freeze):
    assert from_values({"freeze": freeze, "init_from": "own.keras", "epochs": 13}).finetuning.freeze == freeze


@pytest.mark.parametrize("freeze", ["", "0", "-1", "1.5", "all", "None", "1 2"])
def test_another_word_for_freezing_is_refused(freeze):
    assert fault(freeze=freeze, init_from="own.keras") == (
        f"--freeze={freeze} must be none, backbone, or a number of epochs from 1"
    )


def test_what_freezes_needs_trained_weights_and_epochs_to_learn_in():
    assert fault(freeze="backbone") == (
        "--freeze=backbone needs trained weights: give --init_from or --branches, or leave it out"
    )
    assert fault(batch_statistics="keep").startswith("--batch_statistics=keep needs trained weights")
    assert fault(freeze="8", epochs=8, init_from="a") == (
        "--freeze=8 must be below --epochs=8: for all epochs give --freeze=backbone"
    )
    assert fault(freeze="backbone", backbone_lr=0.1, init_from="a") == (
        "--backbone_lr=0.1 contradicts --freeze=backbone, where the backbone does not learn: leave one of them out"
    )
    assert fault(freeze="1", init="slices", init_from="a", splits=2) == (
        "--freeze=1 contradicts --init=slices, whose backbones have to learn: leave it out"
    )
    from_values({"backbone_lr": 0.1})


def test_slices_need_a_whole_and_several_branches():
    assert fault(init="slices", splits=2) == (
        "--init=slices needs a trained network: give --init_from, such as the folder of a run with --splits=1"
    )
    assert fault(init="slices", init_from="a") == (
        "--init=slices contradicts --splits=1, whose branch is the whole: give --splits=2 or more, or leave out "
        "--init=slices"
    )
    assert fault(init="slices", branches=("a.keras", "b.keras")) == (
        "--init=slices contradicts --branches, which are networks of their own: leave one of them out"
    )
    assert from_values({"init": "slices", "init_from": "own.keras", "splits": 2}).run.init == "slices"
