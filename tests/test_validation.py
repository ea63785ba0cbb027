"""Rules between settings, for flags and for arguments of a model."""

import pytest

from dico_tf.config import Settings, from_values
from dico_tf.errors import UserError
from tests.test_config import fault, faults


def test_submodels_need_something_to_be_dropped():
    assert "--drop_path=0 makes all submodels of --method=cosub the same" in fault(method="cosub", drop_path=0.0)
    assert from_values({"method": "cosub", "drop_path": 0.2}).network.drop_path == 0.2
    assert from_values({"drop_path": 0.0}).network.drop_path == 0
    assert "(or -1: the preset's own)" in fault(drop_path=1.0)


def test_smoothing_would_make_every_class_of_a_binary_target_present():
    for values in ({"method": "cosub"}, {"target": "binary"}):
        assert "--label_smoothing=0.1 would make every class present" in fault(label_smoothing=0.1, **values)
    assert from_values({"method": "cosub", "target": "softmax", "label_smoothing": 0.1})


def test_a_method_says_how_many_branches_there_are():
    assert "give --method=dico+cosub" in fault(method="cosub", splits=2)
    assert "give --method=cosub" in fault(method="dico+cosub")
    assert from_values({"method": "dico+cosub", "splits": 2}).cotraining.method == "dico+cosub"


def test_what_is_of_submodels_needs_their_method():
    lines = faults(submodels=3, label_weight=0.25)
    assert [line.split()[0] for line in lines] == ["--submodels=3", "--label_weight=0.25"]
    assert all("give --method=cosub" in line for line in lines)
    assert "--label_weight=1.1 must be at least 0 and at most 1" in fault(method="cosub", label_weight=1.1)
    assert "leaves submodels without labels" in fault(method="cosub", label_weight=0.0)


def test_pixels_have_one_class_whatever_the_method():
    for method in ("dico", "cosub"):
        line = fault(task="segmentation", method=method, target="binary")
        assert "--target=binary contradicts --task=segmentation" in line
    from_values({"task": "segmentation", "method": "cosub", "label_smoothing": 0.1})
    settings = Settings(method="cosub")
    assert (settings.target_for("segmentation"), settings.target_for("classification")) == ("softmax", "binary")


def test_arguments_of_a_model_have_the_rules_of_flags_without_their_dashes():
    settings = Settings(model="vit_tiny", classes=3, method="cosub", label_weight=0.0, views=("crop",) * 3)
    with pytest.raises(UserError) as refused:
        settings.check("classification")
    lines = str(refused.value).split("\n")
    assert [line.split()[0] for line in lines] == ["views", "label_weight=0"]
    assert lines[1].endswith("e.g. label_weight=0.5") and "--" not in str(refused.value)


def test_class_weights_are_a_word_or_a_number_for_each_class():
    for words in (("none",), ("balanced",), ("1", "0", "2.5"), (1.0, 2.0)):
        from_values({"class_weights": words})
    for words in (("equal",), ("1", "-1"), ("0", "0"), ("balanced", "1"), ("nan", "1"), ()):
        assert "must be none, balanced, or numbers" in fault(class_weights=words)
    assert "has 2 weights for 3 classes" in fault(class_weights=("1", "2"), classes=3)


def test_distilling_needs_a_teacher_that_sees_what_the_task_shows():
    assert "needs --teacher" in fault(method="distill")
    assert from_values({"method": "distill", "teacher": "runs/a", "label_weight": 0.0}).cotraining.temperature == 4.0
    assert "--teacher=runs/a is for --method=distill" in fault(teacher="runs/a")
    line = fault(method="distill", teacher="a", teacher_views="clean", task="segmentation")
    assert "--teacher_views=clean contradicts --task=segmentation" in line
