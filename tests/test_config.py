import dataclasses
import json
import math

import pytest

from dico_tf import config
from dico_tf.config import clips_and_crops, from_json, from_values, to_values
from dico_tf.errors import UserError


def faults(**values) -> list[str]:
    with pytest.raises(UserError) as caught:
        from_values(values)
    return str(caught.value).split("\n")


def fault(**values) -> str:
    lines = faults(**values)
    assert len(lines) == 1, lines
    return lines[0]


ELSEWHERE = {
    "dataset": "folder:photos", "data_dir": "/data", "image_size": 48, "classes": 7, "validation": 0,
    "skip_unreadable": True, "train_images": 90, "label_noise": 0.25,
    "model": "resnet_110", "splits": 2, "division": "published", "init_from": "old",
    "init": "slices",
    "views": ("crop", "crop+flip"), "same_views": False, "mixup": 0.25, "cutmix": 1.5, "repeated_augmentation": 3,
    "method": "dico",
    "training": "independent", "agreement": "kl", "agreement_weight": 0.75, "agreement_warmup_epochs": 9,
    "label_smoothing": 0.1, "average": "max", "batch_size": 60, "accumulation": 3, "epochs": 40, "max_steps": 17,
    "freeze": "none", "backbone_lr": 0.2, "batch_statistics": "train",  # slices are trained
    "optimizer": "adamw", "lr": 0.3, "momentum": 0.5, "schedule": "step", "warmup_epochs": 4, "warmup_lr": 0.01,
    "min_lr": 1e-7, "step_epochs": (10, 20), "step_factor": 0.5, "weight_decay": 3e-5,
    "weight_decay_division": "exp", "clip_norm": 2.5, "ema": 0.99, "evaluate_ema": True,
    "precision": "mixed_bfloat16", "strategy": "one", "sync_batch_norm": True, "workdir": "runs/a", "seed": 12,
    "save_every": 5, "keep": 3, "patience": 4, "select": "test", "evaluation_batch_size": 77,
    "task": "video", "frames": 4, "frame_rate": 3, "test_views": "10x3", "poly_power": 2.0,
    "void": 255, "auxiliary_weight": 0.5,  # of masks, and so at their defaults
    "skip_duplicates": False,  # of images
    "submodels": 2, "label_weight": 0.5,  # of cosub
    "branches": (), "whole": "",  # in place of a division
    "teacher": "", "teacher_views": "same", "temperature": 4.0,  # of distill
    "class_weights": ("2", "1", "1", "1", "1", "1", "1"), "evaluate_every": 3,
    "target": "softmax", "drop_path": 0.3, "drop_form": "masked",
}  # fmt: skip


def test_the_defaults_are_valid():
    assert from_values({}) == config.Config()


def test_every_field_has_words_for_its_flag_and_a_default_of_its_kind():
    for _, field in config.fields():
        assert field.metadata["help"], field.name
        assert not field.metadata["choices"] or field.default in field.metadata["choices"]
    names = [field.name for _, field in config.fields()]
    assert len(set(names)) == len(names), "a name in two sections would be one flag"


def test_fields_may_be_asked_of_some_sections_only():
    assert {section for section, _ in config.fields("run", "views")} == {"run", "views"}
    assert {section for section, _ in config.fields()} == set(config.SECTIONS)


def test_a_config_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        from_values({}).run.seed = 3
    assert hash(from_values({})) == hash(from_values({}))


def test_values_round_trip_with_every_field_elsewhere():
    assert set(ELSEWHERE) == {field.name for _, field in config.fields()}
    assert to_values(from_values(ELSEWHERE)) == ELSEWHERE
    assert to_values(from_values({})) == {field.name: field.default for _, field in config.fields()}


@pytest.mark.parametrize("values", [{}, ELSEWHERE])
def test_a_config_is_the_same_after_json(values):
    settings = from_values(values)
    read = from_json(json.loads(json.dumps(to_values(settings))))
    assert read == settings
    assert isinstance(read.views.views, tuple) and isinstance(read.optimisation.step_epochs, tuple)


def test_repeats_of_an_image_must_differ_and_fit_into_a_batch():
    assert "--views=none: all copies of an image would be the same" in fault(repeated_augmentation=3, views=("none",))
    assert "is more than --batch_size=2" in fault(repeated_augmentation=3, batch_size=2)
    assert "must be at least 1" in fault(repeated_augmentation=0)
    from_values({"repeated_augmentation": 3, "views": ("none", "crop"), "splits": 2, "training": "independent"})


def test_what_a_json_config_leaves_out_has_its_default():
    assert from_json({"seed": 3}) == from_values({"seed": 3})


def test_a_json_config_of_another_version_is_refused_with_all_it_has_in_excess():
    with pytest.raises(UserError, match="another version: its config has unknown settings gamma, zeta"):
        from_json({**to_values(from_values({})), "zeta": 1, "gamma": 2})


def test_a_setting_that_was_removed_is_ignored_at_its_default_and_refused_elsewhere(monkeypatch):
    for name, default in (("gamma", False), ("zeta", (1, 2))):
        monkeypatch.setitem(config.REMOVED, name, default)
    plain = to_values(from_values({}))
    assert from_json({**plain, "zeta": [1, 2], "gamma": False}) == from_json(plain) == from_values({})
    with pytest.raises(UserError, match=r"^runs/old was made by an earlier version with --gamma=True, --zeta=\(1,\), "):
        from_json({**plain, "zeta": [1], "gamma": True, "unheard_of": 1}, "runs/old")


def test_every_contradiction_is_reported_at_once():
    lines = faults(
        views=("crop", "flip", "crop+flip"), splits=2, same_views=True, training="independent", validation=0,
        batch_size=10, accumulation=3, warmup_epochs=20, epochs=20, warmup_lr=0.2, evaluate_ema=True,
        step_epochs=(5,), min_lr=0.5, lr=0.1,
    )  # fmt: skip
    starts = [
        "--views names 3 policies for 2 branches",
        "--same_views contradicts different --views",
        "--same_views contradicts --training=independent",
        "--validation=0 sets no images aside for --select=validation",
        "--batch_size=10 does not divide into --accumulation=3",
        "--warmup_epochs=20 must be below --epochs=20",
        "--warmup_lr=0.2 is above --lr=0.1",
        "--min_lr=0.5 is above --lr=0.1",
        "--evaluate_ema needs averaged weights",
        "--step_epochs contradicts --schedule=cosine",
    ]
    assert len(lines) == len(starts)
    for line, start in zip(lines, starts, strict=True):
        assert line.startswith(start)


def test_what_is_of_masks_needs_the_task_of_masks():
    for task in ("classification", "video"):
        lines = faults(task=task, void=11, auxiliary_weight=0.25)
        assert [line.split()[0] for line in lines] == ["--void=11", "--auxiliary_weight=0.25"]
        assert all(f"and contradicts --task={task}: give --task=segmentation" in line for line in lines)
    assert "--frames=8 is for --task=video" in fault(task="segmentation", frames=8)


def test_what_is_of_clips_needs_the_task_of_clips():
    lines = faults(frames=8, frame_rate=2, test_views="10", dataset="moving")
    assert [line.split()[0] for line in lines] == [
        "--frames=8",
        "--frame_rate=2",
        "--test_views=10",
        "--dataset=moving",
    ]
    assert all("contradicts --task=classification: give --task=video" in line for line in lines)
    assert from_values({"task": "video", "frames": 8, "frame_rate": 2, "test_views": "10", "dataset": "moving"})


@pytest.mark.parametrize(("text", "views"), [("1x1", (1, 1)), ("10", (10, 1)), ("10x3", (10, 3))])
def test_views_of_a_test_are_clips_and_crops(text, views):
    assert clips_and_crops(text) == views


@pytest.mark.parametrize("text", ["", "x", "0x1", "10x2", "-1x3", "ax3", "1x1x1"])
def test_other_views_of_a_test_are_refused(text):
    (line,) = faults(test_views=text, task="video")
    assert line.startswith(f"--test_views={text} must be CLIPSxCROPS such as 10x3")


def test_bad_choices_numbers_and_contradictions_come_together():
    lines = faults(agreement="l2", epochs=0, validation=0)
    assert [line.split()[0] for line in lines] == ["--agreement", "--epochs=0", "--validation=0"]


CHOSEN = [field.name for _, field in config.fields() if field.metadata["choices"]]


@pytest.mark.parametrize("name", CHOSEN)
def test_a_value_that_is_no_choice_is_refused_with_the_choices(name):
    line = next(line for line in faults(**{name: "zzz"}) if line.startswith(f"--{name} must be one of "))
    assert line.endswith("got 'zzz'")
    for choice in next(field.metadata["choices"] for _, field in config.fields() if field.name == name):
        assert choice in line


# name: the smallest allowed, the largest refused
LOWER = {
    "image_size": (0, -1), "classes": (0, -1), "validation": (1, -1), "train_images": (0, -1),
    "label_noise": (0, -1e-9), "splits": (1, 0), "mixup": (0, -1e-9),
    "cutmix": (0, -1e-9), "repeated_augmentation": (1, 0),
    "agreement_weight": (0, -1e-9), "agreement_warmup_epochs": (0, -1), "batch_size": (1, 0),
    "accumulation": (1, 0), "epochs": (1, 0), "max_steps": (0, -1), "lr": (1e-4, -1e-9), "warmup_epochs": (-1, -2),
    "warmup_lr": (0, -1e-9), "min_lr": (0, -1e-9), "clip_norm": (0, -1e-9), "seed": (0, -1), "save_every": (0, -1),
    "keep": (1, 0), "patience": (0, -1),
    "evaluation_batch_size": (1, 0), "label_smoothing": (0, -1e-9), "ema": (0, -1e-9),
    "momentum": (0, -1e-9), "step_factor": (1e-9, 0), "weight_decay": (0, -1e-9),
    "backbone_lr": (1e-9, 0), "submodels": (2, 1), "label_weight": (1e-9, -1e-9),
    "temperature": (1e-9, 0), "evaluate_every": (1, 0), "drop_path": (0, -1e-9),
    "frames": (0, -1), "frame_rate": (0, -1), "void": (-1, -2), "auxiliary_weight": (0, -1e-9), "poly_power": (1e-9, 0),
}  # fmt: skip
METHOD = {"submodels": "cosub", "label_weight": "cosub", "temperature": "distill"}  # numbers that few methods use
TASKS = {"void": "segmentation", "auxiliary_weight": "segmentation"}  # of numbers that one task alone has a use for


def test_every_number_has_a_bound_that_is_tested():
    assert set(LOWER) == {field.name for _, field in config.fields() if field.type in (int, float)}


@pytest.mark.parametrize("name", LOWER)
def test_a_number_is_allowed_down_to_its_bound_and_refused_below(name):
    allowed, refused = LOWER[name]
    task, method = TASKS.get(name, "classification"), METHOD.get(name, "dico")
    teacher = "runs/a" if method == "distill" else ""
    values = {name: allowed, "task": task, "method": method, "teacher": teacher}
    assert to_values(from_values(values))[name] == allowed
    assert any(line.startswith(f"--{name}={refused} must be ") for line in faults(**{name: refused}))


def test_pictures_have_the_pixels_that_every_network_needs():
    assert from_values({"image_size": 4}).data.image_size == 4
    assert faults(image_size=3) == ["--image_size=3 must be at least 4 (or 0: the data set's own)"]


@pytest.mark.parametrize(
    ("name", "allowed", "refused"),
    [
        ("label_smoothing", 0.999, 1), ("ema", 0.9999, 1), ("momentum", 0.999, 1.0), ("step_factor", 1, 1.1),
        ("seed", 2**31 - 1, 2**31), ("label_noise", 0.999, 1),
    ],
)  # fmt: skip
def test_a_number_is_allowed_up_to_its_bound_and_refused_above(name, allowed, refused):
    from_values({name: allowed})
    assert fault(**{name: refused}).startswith(f"--{name}={refused} must be ")


@pytest.mark.parametrize("name", [field.name for _, field in config.fields() if field.type is float])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_refused_once(name, value):
    lines = faults(**{name: value})
    assert lines.count(f"--{name}={value} is not a finite number") == 1
    assert not any("must be" in line for line in lines)


def test_a_seed_fits_into_31_bits():
    assert fault(seed=2**31) == "--seed=2147483648 must be at least 0 and below 2147483648"


def test_minus_one_is_the_published_weight_decay_and_no_other_negative_is():
    assert from_values({"weight_decay": -1}).optimisation.weight_decay == -1
    assert "or -1: the published one" in fault(weight_decay=-0.5)
    assert "or -1: the published one" in fault(weight_decay=-2)


def test_minus_one_is_the_published_warm_up_of_none_and_shifts_a_cosine_only():
    assert from_values({"warmup_epochs": -1, "epochs": 1}).optimisation.warmup_epochs == -1
    for schedule in ("step", "constant"):
        assert f"contradicts --schedule={schedule}" in fault(warmup_epochs=-1, schedule=schedule)


def test_the_warm_up_ends_before_the_last_epoch():
    from_values({"warmup_epochs": 9, "epochs": 10})
    assert "must be below --epochs=1" in fault(warmup_epochs=1, epochs=1)
    assert "must be below --epochs=10" in fault(warmup_epochs=10, epochs=10)


def test_a_warm_up_that_would_fall_is_refused():
    assert "--warmup_lr=0.005 is above --lr=0.001" in fault(lr=0.001, warmup_epochs=1)
    from_values({"lr": 0.001})  # no warm-up, no contradiction
    from_values({"lr": 0.005, "warmup_epochs": 5})


def test_a_floor_above_the_learning_rate_is_refused_where_there_is_a_floor():
    assert "--min_lr=0.0001 is above --lr=5e-05" in fault(lr=5e-5)
    assert "--min_lr=0.0001 is above --lr=5e-05" in fault(lr=5e-5, schedule="cosine_floor")
    from_values({"lr": 5e-5, "schedule": "constant"})
    from_values({"lr": 5e-5, "min_lr": 5e-5})


@pytest.mark.parametrize("epochs", [(0,), (-3, 5), (60, 30), (30, 30)])
def test_falls_of_the_learning_rate_must_rise(epochs):
    assert "must be increasing and at least 1" in fault(step_epochs=epochs, schedule="step")


def test_the_learning_rate_may_fall_from_the_first_epoch():
    assert from_values({"step_epochs": (1, 2), "schedule": "step"}).optimisation.step_epochs == (1, 2)


def test_one_policy_serves_any_number_of_branches_and_several_need_one_each():
    from_values({"views": ("crop",), "splits": 4})
    from_values({"views": ("crop", "flip"), "splits": 2})
    for views in ((), ("crop", "flip"), ("crop",) * 3):
        assert f"names {len(views)} policies for 4 branches" in fault(views=views, splits=4)


def test_same_views_allow_the_same_policy_named_per_branch():
    assert from_values({"same_views": True, "splits": 2, "views": ("crop", "crop")}).views.same_views
    assert "give one policy" in fault(same_views=True, splits=2, views=("crop", "flip"))


def test_no_validation_needs_the_test_split_to_select_by():
    from_values({"validation": 0, "select": "test"})
    assert "give --select=test" in fault(validation=0)


def test_pieces_of_a_batch_are_equal():
    from_values({"batch_size": 12, "accumulation": 3})
    assert "equal pieces" in fault(batch_size=2, accumulation=4)
    assert fault(batch_size=2, accumulation=0) == "--accumulation=0 must be at least 1"


def test_averaged_weights_must_be_kept_to_be_evaluated():
    from_values({"ema": 0.9, "evaluate_ema": True})
    assert "--ema=0.999" in fault(evaluate_ema=True)


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("epochs", "3", "a whole number"), ("epochs", 3.0, "a whole number"), ("epochs", True, "a whole number"),
        ("lr", "0.1", "a number"), ("lr", False, "a number"), ("lr", None, "a number"),
        ("same_views", 1, "true or false"), ("model", None, "a text"), ("views", "crop", "a list, each entry a text"),
        ("views", (1,), "a list, each entry a text"), ("step_epochs", (1.5,), "a list, each entry a whole number"),
    ],
)  # fmt: skip
def test_a_value_of_the_wrong_kind_is_refused_and_not_guessed_at(name, value, kind):
    assert fault(**{name: value}) == f"--{name}={value!r} must be {kind}"


def test_every_value_of_the_wrong_kind_is_reported_at_once():
    assert len(faults(epochs="3", lr=None, views="crop")) == 3


@pytest.mark.parametrize("text", ["a\nb", "a\r", "\x85"])
def test_a_line_break_is_refused_since_no_flag_file_could_hold_it(text):
    assert "contains a line break" in fault(workdir=text)
    assert "contains a line break" in fault(views=(text,))


def test_segmentation_refuses_what_only_classes_of_images_have():
    lines = faults(task="segmentation", splits=2, mixup=0.2, cutmix=1.0, skip_unreadable=True)
    assert [line.split("=")[0] for line in lines] == [
        "--mixup",
        "--cutmix",
        "--skip_unreadable contradicts --task",
    ]
    assert "branches share each image's crop" in fault(task="segmentation", training="independent")
    assert "pieces of at least 2 images" in fault(task="segmentation", batch_size=4, accumulation=4)
    assert from_values({"task": "segmentation", "void": 11}).data.void == 11
    assert "at most 255" in fault(task="segmentation", void=256)
