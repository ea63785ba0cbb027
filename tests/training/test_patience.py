"""Runs that --patience ends before their last epoch."""

import json

import pytest

from dico_tf.training import steps
from dico_tf.training.checkpoints import Checkpoints
from tests.commands import command, succeeded
from tests.small_network import small_file

WORDS = [
    "--dataset=digits", "--image_size=8", f"--model={small_file()}", "--batch_size=100", "--epochs=9",
    "--validation=100", "--lr=0.05", "--train_images=200", "--schedule=constant",
]  # fmt: skip
SCORES = [0.1, 0.3, 0.3, 0.2, 0.5, 0.4, 0.1, 0.5, 0.9]  # by epoch


class Killed(BaseException):
    """Ends a training at once, without a last save."""


def _rows(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(autouse=True)
def scores(monkeypatch):
    """Give the evaluation of every epoch a score by its number."""
    evaluate = steps.Evaluator.__call__

    def scored(evaluator, split):
        epoch = int(evaluator._model.step.numpy()) // 2 - 1
        return {**evaluate(evaluator, split), "ensemble_accuracy": SCORES[epoch]}

    monkeypatch.setattr(steps.Evaluator, "__call__", scored)


def _ended(folder, epochs, best):
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["status"], summary["stopped_early"]) == ("finished", epochs < 9)
    assert (summary["epochs"], summary["best_epoch"]) == (epochs, best)
    assert [row["epoch"] for row in _rows(folder)] == list(range(epochs))


def test_training_ends_when_no_evaluation_is_better_and_goes_on_with_more_patience(tmp_path):
    words = [*WORDS, f"--workdir={tmp_path}"]
    out = succeeded("train", *words, "--patience=2")
    line = "stopped early after epoch 4: the last 2 evaluations were not better than that of epoch 2 (--patience)"
    assert out.splitlines().count(line) == 1 and "best epoch 2 of 4" in out
    _ended(tmp_path, 4, 1)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("checkpoints/*/weights.npz")}
    again = succeeded("train", *words, "--patience=2")
    assert "best epoch 2 of 4" in again and len(before) == 2
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.glob("checkpoints/*/weights.npz")}
    _ended(tmp_path, 4, 1)
    assert "stopped early after epoch 8" in succeeded("train", *words, "--patience=3")
    _ended(tmp_path, 8, 4)
    assert "stopped early" not in succeeded("train", *words)
    _ended(tmp_path, 9, 8)


@pytest.mark.slow
def test_only_epochs_with_an_evaluation_count(tmp_path):
    words = [*WORDS, "--patience=1", "--evaluate_every=3", f"--workdir={tmp_path}"]  # scores 0.3, 0.4 and 0.9
    assert "stopped early" not in succeeded("train", *words)
    _ended(tmp_path, 9, 8)


def test_a_killed_run_ends_at_the_same_epoch(tmp_path, monkeypatch):
    words = [*WORDS, "--patience=2", f"--workdir={tmp_path}"]
    save = Checkpoints.save

    def killing(checkpoints, model, facts):
        save(checkpoints, model, facts)
        if facts["epochs_done"] == 3:
            raise Killed

    monkeypatch.setattr(Checkpoints, "save", killing)
    with pytest.raises(Killed):
        command("train", *words)
    monkeypatch.setattr(Checkpoints, "save", save)
    out = succeeded("train", *words)
    assert "continuing from step 6" in out and "stopped early after epoch 4" in out
    _ended(tmp_path, 4, 1)
