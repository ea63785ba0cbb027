"""Tasks: every table has an entry for each, and networks of one task are refused for another."""

import importlib

import pytest

from dico_tf import config
from dico_tf.data.source import FEW, FOLDERS, SOURCES
from dico_tf.errors import UserError
from dico_tf.models.presets import PRESETS, check_task
from dico_tf.training.build import TrainedRun, data_options

TASKS = next(field.metadata["choices"] for _, field in config.fields("data") if field.name == "task")


def test_every_task_has_a_class_a_kind_of_folder_and_networks():
    assert set(FOLDERS) == {preset.task for preset in PRESETS.values()} == set(TASKS)
    assert set(FEW) <= set(TASKS) and {kind for _, kinds, _ in FEW.values() for kind in kinds} <= set(SOURCES)
    for room, classes in (("tasks", config.TASKS), ("methods", config.METHODS)):
        for path in classes.values():
            module, name = path.split(".")
            assert isinstance(getattr(importlib.import_module(f"dico_tf.cotrain.{room}.{module}"), name), type)


@pytest.mark.parametrize("task", TASKS)
def test_a_network_of_another_task_is_refused_with_what_would_do(task):
    own = {"classification": "wrn_tiny", "segmentation": "deeplabv3_tiny", "video": "x3d_tiny"}
    for learns, model in own.items():
        settings = config.from_values({"task": task, "model": model})
        if learns == task:
            assert data_options(settings).task == task
            continue
        message = f"--model={model} is for {learns} and --task={task}: give --task={learns}, or a model such as "
        with pytest.raises(UserError, match=message):
            data_options(settings)
    if task != "classification":
        with pytest.raises(UserError, match=r"--model=mine\.keras is for classification"):
            check_task("mine.keras", task)


def test_an_unknown_model_is_unknown_for_every_task():
    for task in TASKS:
        with pytest.raises(UserError, match=r"unknown model 'deeplabv3_resnet50'; did you mean .*deeplabv3_resnet_50"):
            check_task("deeplabv3_resnet50", task)


def test_only_runs_of_images_and_their_classes_go_where_one_class_an_image_is_answered(tmp_path):
    def run(task: str) -> TrainedRun:
        return TrainedRun(tmp_path, config.from_values({"task": task}), {}, "", {}, {})

    run("classification").check_images("exports", "")
    for task in ("segmentation", "video"):
        message = f"{tmp_path} is a {task} run, but members need one that classifies images: give another"
        with pytest.raises(UserError, match=message):
            run(task).check_images("members", "give another")
