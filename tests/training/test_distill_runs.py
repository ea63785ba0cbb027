"""Runs that learn from a teacher, weigh classes, and evaluate every few epochs."""

import json
from pathlib import Path

import numpy as np
import pytest

from dico_tf.config import from_values
from dico_tf.data.splits import class_counts
from dico_tf.training import build

pytestmark = pytest.mark.slow  # trains or starts several processes

WORDS = [
    "--dataset=digits",
    "--model=wrn_tiny",
    "--splits=2",
    "--image_size=16",
    "--batch_size=256",
    "--lr=0.05",
    "--validation=100",
    "--views=crop",
    "--seed=4",
]


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """Train a short run with balanced classes, evaluated in its second and its last epoch."""
    from dico_tf import flags
    from dico_tf.training.run import train

    folder = tmp_path_factory.mktemp("runs") / "teacher"
    values = {
        "dataset": "digits",
        "model": "wrn_tiny",
        "splits": 2,
        "image_size": 16,
        "batch_size": 256,
        "lr": 0.05,
        "validation": 100,
        "views": ("crop",),
        "seed": 4,
        "epochs": 3,
        "evaluate_every": 2,
        "class_weights": ("balanced",),
        "workdir": str(folder),
    }
    config = from_values(values)
    train(config, flags.flagfile(config, "test"), lambda line: None)
    return folder


def test_epochs_are_evaluated_every_few_and_at_the_end(teacher):
    assert ["validation" in row for row in rows(teacher)] == [False, True, True]
    summary = json.loads((teacher / "summary.json").read_text())
    assert summary["best_epoch"] in (1, 2) and summary["epochs"] == 3


def test_a_run_counts_its_classes_and_keeps_the_weights(teacher):
    run = build.trained_run(teacher)
    counts = run.data["class_counts"]
    assert len(counts) == 10 and sum(counts) == run.data["sizes"]["train"] - 100
    weights = np.array(run.network().settings.class_weights)
    assert weights * counts == pytest.approx([sum(counts) / 10] * 10)


def test_masks_are_counted_pixel_by_pixel():
    class Masks:
        size = 3

        def framed(self, positions):
            masks = np.array([[[0, 1]], [[2, 255]], [[1, 1]]], np.uint8)[positions]
            return None, masks

    assert class_counts(Masks(), 4) == [1, 3, 1, 0]


def test_a_run_learns_from_a_run_and_refuses_another_teacher_later(teacher, tmp_path, here):
    folder = tmp_path / "student"
    words = [*WORDS, "--method=distill", "--epochs=2", f"--workdir={folder}"]
    status, out, err = here("train", *words, f"--teacher={teacher}", "--max_steps=4")
    assert status == 0, err
    assert len(json.loads((folder / "config.json").read_text())["data"]["teacher"]) == 64
    status, _, err = here("train", *words, f"--teacher={teacher}:branch_0")
    assert status == 2 and "--teacher is another model" in err
    status, out, err = here("train", *words, f"--teacher={teacher}")
    assert status == 0 and "continuing from step 4" in out, err
    assert "ensemble" in out


def test_clean_answers_are_computed_once(teacher, tmp_path, here):
    words = [*WORDS, "--method=distill", "--epochs=1", "--max_steps=1", "--teacher_views=clean", "--mixup=0.2"]
    for name in ("one", "two"):
        status, _, err = here("train", *words, f"--teacher={teacher}", f"--workdir={tmp_path / name}")
        assert status == 0, err
        assert ("asking" in err) is False


def test_a_teacher_of_other_classes_is_refused(teacher, tmp_path, here):
    table = tmp_path / "logits.npz"
    np.savez(table, logits=np.zeros((1797, 7), np.float32), ids=np.arange(1797).astype(str), labels=np.zeros(1797, int))
    words = [*WORDS, "--method=distill", f"--workdir={tmp_path / 'run'}"]
    status, _, err = here("train", *words, f"--teacher={table}")
    assert status == 2 and "give --teacher_views=clean" in err.replace("\n", " ")
    status, _, err = here(
        "train", *words[:-1], f"--workdir={tmp_path / 'other'}", "--classes=12", f"--teacher={teacher}"
    )
    assert status == 2 and "10 classes" in err and err.count("\n") == 1
