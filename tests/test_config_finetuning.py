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
    assert fault(freeze="1", init="slices", init_from="a") == (
        "--freeze=1 contradicts --init=slices, whose backbones have to learn: leave it out"
    )
    from_values({"backbone_lr": 0.1})
