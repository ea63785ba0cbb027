"""Runs from the command line: what the scripts write, print and refuse."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from dico_tf import flags
from dico_tf.cli import train
from dico_tf.config import from_json, from_values, to_values
from dico_tf.files import tables
from dico_tf.models.torch_weights import Carried
from dico_tf.training import build, steps, variables
from tests.commands import succeeded
from tests.small_network import small_file

ROOT = Path(__file__).parents[2]
DIGITS = [
    "--dataset=digits",
    "--model=wrn_tiny",
    "--splits=2",
    "--views=crop,crop+cutout",
    "--mixup=0.2",
    "--epochs=2",
    "--batch_size=256",
    "--validation=100",
    "--warmup_epochs=1",
    "--lr=0.05",
    "--seed=4",
    "--image_size=16",
]
PICTURES = ["--model=wrn_tiny", "--splits=2", "--batch_size=8", "--lr=0.05", "--schedule=constant", "--views=flip"]
COSTS = ("seconds", "images_per_second")


def _run(script: str, *words: str) -> subprocess.CompletedProcess:
    """Run a script like a user's shell, without settings for TensorFlow's log."""
    command = [sys.executable, script, *words]
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


def _done(script: str, *words: str) -> str:
    done = _run(script, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _taught(workdir: Path, *words: str) -> str:
    """Train in this process."""
    return succeeded("train", *words, f"--workdir={workdir}")


def _json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def _rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def _picture(path: Path, brightness: int, seed: int) -> None:
    noise = np.random.default_rng(seed).integers(brightness, brightness + 100, (32, 32, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise.astype(np.uint8)).save(path)


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "digits"
    output = _taught(folder, *DIGITS)
    for text in ("whole budget", "branch_0", "branch_1", "ensemble (logits)", "test top-1 %", "branches disagree on"):
        assert text in output
    first, warning, evidence, *_ = output.splitlines()
    assert first.startswith("wrn_tiny in 2 branches on digits")
    assert warning.startswith(
        "warning: the branches together have 200.0% of the whole's parameters; give another --spl"
    )
    assert evidence.startswith("published evidence: branches of 0.078 M parameters: no published case is as small")
    assert evidence.endswith("at least 50,000, here there are 1,338 training images [arXiv 2011.14660]")
    assert output.count(evidence) == 1
    *_, sentence, page = output.splitlines()
    assert sentence.startswith("the branches together are dearer than the whole (200 % of its parameters")
    assert page == f"report: {folder}/report.html"
    return folder


@pytest.fixture(scope="module")
def days(tmp_path_factory) -> Path:
    """A folder with thirty images of each of two classes: 48 for training, 12 for the test."""
    root = tmp_path_factory.mktemp("pictures") / "days"
    for n in range(30):
        _picture(root / "day" / f"{n:02d}.png", 140, n)
        _picture(root / "night" / f"{n:02d}.png", 0, 100 + n)
    return root


@pytest.fixture(scope="module")
def averaged(days, digits, tmp_path_factory) -> tuple[Path, str]:
    """Train on images from the weights of the digits run, evaluated by averaged weights; return folder and output."""
    folder = tmp_path_factory.mktemp("averaged") / "run"
    words = ["--ema=0.5", "--evaluate_ema", "--epochs=1", f"--init_from={digits}"]
    return folder, _taught(folder, f"--dataset=folder:{days}", *PICTURES, *words)


@pytest.mark.slow
def test_the_scripts_do_the_same_as_processes_of_their_own(days, tmp_path):
    """A user's journey through the scripts. TensorFlow's own start messages are ignored."""
    run = f"--workdir={tmp_path / 'run'}"
    output = _run("train.py", f"--dataset=folder:{days}", *PICTURES, "--epochs=1", run)
    assert (output.returncode, "whole budget" in output.stdout) == (0, True)
    assert "Traceback" not in output.stderr
    assert "ensemble" in _done("evaluate.py", run, "--split=validation")
    picture = str(days / "day" / "00.png")
    assert _done("predict.py", run, picture).startswith(f"{picture}: ")


@pytest.mark.slow
def test_run_flags_repeats_the_run(digits, tmp_path):
    again = tmp_path / "again"
    _taught(again, f"--flagfile={digits / 'run.flags'}")
    one, other = (np.load(folder / "best" / "weights.npz") for folder in (digits, again))
    assert set(one.files) == set(other.files)
    assert [name for name in one.files if not np.array_equal(one[name], other[name])] == []
    rows = [[{k: v for k, v in row.items() if k not in COSTS} for row in _rows(folder)] for folder in (digits, again)]
    assert rows[0] == rows[1]


def test_every_epoch_has_a_row(digits):
    rows = _rows(digits)
    assert [(row["format"], row["epoch"], row["step"]) for row in rows] == [(1, 0, 5), (1, 1, 10)]
    for row in rows:
        assert {"loss", "lr", "agreement", "branch_accuracy", "ensemble_accuracy", "validation", *COSTS} <= set(row)
        assert len(row["branch_accuracy"]) == 2
        assert len(row["validation"]["branch_accuracy"]) == 2
        assert 0 <= row["validation"]["ensemble_accuracy"] <= 1
    assert rows[1]["loss"] < rows[0]["loss"]


def test_the_summary_says_what_was_bought(digits):
    summary = _json(digits / "summary.json")
    names = {"format", "model", "splits", "params", "macs", "epochs", "seconds", "best_epoch", "select", "final"}
    assert names | {"status", "selected_on_test"} <= set(summary)
    assert (summary["model"], summary["splits"], summary["epochs"]) == ("wrn_tiny", 2, 2)
    assert (summary["status"], summary["select"], summary["selected_on_test"]) == ("finished", "validation", False)
    evaluation = _json(digits / "evaluation.json")
    assert summary["final"]["split"] == evaluation["split"] == "test"
    assert summary["final"]["branches"] == [branch["top1"] for branch in evaluation["branches"]]
    assert summary["final"]["ensemble"] == evaluation["ensemble"]["top1"]
    best = max(_rows(digits), key=lambda row: row["validation"]["ensemble_accuracy"])
    assert summary["best_epoch"] == best["epoch"]


def test_the_config_remembers_flags_data_and_versions(digits):
    record = _json(digits / "config.json")
    assert set(record) == {"network", "format", "config", "data", "versions"}
    settings = from_values(flags.parse(train.SCRIPT, [*DIGITS, f"--workdir={digits}"])[0])
    assert to_values(from_json(record["config"])) == to_values(settings)
    assert record["data"]["class_names"] == list("0123456789") and record["data"]["fingerprint"]
    assert {"dico_tf", "tensorflow", "keras", "numpy"} <= set(record["versions"])


def test_tensorboard_has_the_scalars_of_branches_and_a_picture_of_their_views(digits):
    result = {}
    for path in (digits / "tensorboard").glob("events.*"):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(record)
            for value in event.summary.value:
                result.setdefault(value.tag, []).append((event.step, value))
    for tag in ("loss", "lr", "branch_accuracy/0", "branch_accuracy/1", "validation/branch_accuracy/1"):
        assert [at for at, _ in result[tag]] == [0, 1]
    ((_, views),) = result["views"]
    width, height = (int(text) for text in views.tensor.string_val[:2])
    assert (width, height) == (8 * 16, 2 * 16)


def test_evaluate_scores_the_images_held_out_for_it(digits):
    tested = (digits / "evaluation.json").read_bytes()
    output = succeeded("evaluate", f"--workdir={digits}", "--split=validation")
    assert "branch_1" in output and "ensemble" in output
    assert (digits / "evaluation.json").read_bytes() == tested == (digits / "evaluation_test.json").read_bytes()
    result = _json(digits / "evaluation_validation.json")
    assert (result["format"], result["split"], result["select"], result["weights"]) == (
        1,
        "validation",
        "validation",
        "raw",
    )
    parts = {name: tables.read_predictions(digits / f"predictions_{name}.npz") for name in ("validation", "test")}
    assert [len(p.ids) for p in parts.values()] == [100, 359]
    assert not set(parts["validation"].ids) & set(parts["test"].ids)
    assert parts["validation"].logits.shape == (100, 2, 10)
    score = np.mean(parts["validation"].logits.mean(1).argmax(-1) == parts["validation"].labels)
    best = _rows(digits)[_json(digits / "summary.json")["best_epoch"]]
    assert result["ensemble"]["top1"] == pytest.approx(score)
    assert result["ensemble"]["top1"] == pytest.approx(best["validation"]["ensemble_accuracy"], abs=1e-6)


def test_evaluate_refuses_a_split_there_is_none_of(digits, here):
    status, out, err = here("evaluate", f"--workdir={digits}", "--split=val")
    assert (status, out) == (2, "") and err.startswith(f"evaluate.py: --split=val: {digits} has no such split")


@pytest.mark.slow
def test_predict_says_classes_branches_and_their_disagreement(averaged, tmp_path):
    folder, _ = averaged
    for name, brightness in (("noon.png", 140), ("midnight.png", 0)):
        _picture(tmp_path / name, brightness, 7)
    lines = succeeded("predict", f"--workdir={folder}", tmp_path / "noon.png", tmp_path / "midnight.png")
    for name, line in zip(("noon.png", "midnight.png"), lines.splitlines(), strict=True):
        assert line.startswith(f"{tmp_path / name}: ") and "branches say" in line and "disagreement" in line
        assert "day" in line and "night" in line


@pytest.mark.slow
def test_predict_in_json(averaged, here, tmp_path):
    _picture(tmp_path / "noon.png", 140, 7)
    status, out, _ = here("predict", f"--workdir={averaged[0]}", "--json", "--top=1", str(tmp_path / "noon.png"))
    answer = json.loads(out)
    assert status == 0 and set(answer) == {"format", "picture", "classes", "branches", "disagreement"}
    assert len(answer["classes"]) == 1 and 0.5 <= answer["classes"][0]["probability"] <= 1
    assert len(answer["branches"]) == 2 and 0 <= answer["disagreement"] <= np.log(2)


@pytest.mark.slow
def test_predict_names_a_picture_it_cannot_read(averaged, here, tmp_path, caplog):
    (tmp_path / "text.png").write_text("no picture")
    _picture(tmp_path / "noon.png", 140, 7)
    pictures = [str(tmp_path / name) for name in ("text.png", "noon.png")]
    status, out, err = here("predict", f"--workdir={averaged[0]}", *pictures)
    assert (status, out) == (2, "") and err.startswith(f"predict.py: cannot read {pictures[0]} (")
    status, out, _ = here("predict", f"--workdir={averaged[0]}", "--skip_unreadable", *pictures)
    assert status == 0 and out.startswith(f"{pictures[1]}: ") and out.count("\n") == 1
    assert caplog.text.count(f"cannot read, left out: {pictures[0]} (") == 1


@pytest.mark.slow
def test_a_folder_of_pictures_trains_and_its_averaged_weights_are_judged(averaged):
    folder, output = averaged
    assert "(44 train, 12 test, 4 validation)" in output
    (row,) = _rows(folder)
    assert set(row["validation_ema"]) == set(row["validation"])
    assert _json(folder / "config.json")["data"]["class_names"] == ["day", "night"]
    assert _json(folder / "best" / "state.json")["weights"] == "ema"
    for name in ("evaluation", "evaluation_validation"):
        assert _json(folder / f"{name}.json")["weights"] == "ema"
    evaluated = _json(folder / "evaluation_validation.json")["ensemble"]["top1"]
    assert evaluated == pytest.approx(row["validation_ema"]["ensemble_accuracy"], abs=1e-6)


@pytest.mark.slow
def test_other_classes_get_a_fresh_head_and_nothing_else_does(averaged, digits):
    folder, output = averaged
    heads = [f"branch_{s}/logits/{name}" for s in (0, 1) for name in ("kernel", "bias")]
    assert f"weights from {digits}, fresh: {', '.join(heads)}" in output
    run, before = build.trained_run(folder), build.trained_run(digits)
    model = run.network()
    assert build.start_from(model, digits).fresh == heads
    result = variables.values(variables.weights(model))
    assert [n for n in result if n not in heads and not np.array_equal(result[n], before.arrays[n])] == []


def test_the_same_classes_start_from_the_same_weights(digits):
    run = build.trained_run(digits)
    model = build.network(run.config, run.data)
    assert build.start_from(model, digits) == Carried(fresh=[], unused=[])
    result = variables.values(variables.weights(model))
    assert result.keys() == run.arrays.keys()
    assert [n for n in result if not np.array_equal(result[n], run.arrays[n])] == []


@pytest.mark.parametrize("other", ["--splits=4", "--splits=1", "--model=resnet_tiny"])
def test_weights_of_another_network_are_refused(digits, here, tmp_path, other):
    words = [*DIGITS, other, "--views=crop", f"--init_from={digits}", f"--workdir={tmp_path / 'run'}", "--max_steps=1"]
    status, _, err = here("train", *words)
    assert status == 2 and "which does not fit" in err and "give the same --model, --splits and --division" in err
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_folder_of_one_class_is_one_line(here, tmp_path):
    for n in range(4):
        _picture(tmp_path / "alone" / "cat" / f"{n}.png", 0, n)
    status, out, err = here(
        "train", f"--dataset=folder:{tmp_path / 'alone'}", *PICTURES, f"--workdir={tmp_path / 'run'}"
    )
    assert (status, out) == (2, "") and err.count("\n") == 1
    assert err.startswith("train.py: ") and "class" in err


@pytest.mark.slow
def test_selection_on_the_test_images_is_marked_and_max_steps_stops(days, here, tmp_path):
    words = ["--select=test", "--validation=0", "--epochs=3", "--max_steps=8", f"--workdir={tmp_path}"]
    status, out, err = here("train", f"--dataset=folder:{days}", *PICTURES, *words)
    assert status == 0, err
    assert "(48 train, 12 test)" in out and "chosen on the test images as the papers do: optimistic" in out
    (row,) = _rows(tmp_path)
    assert (row["step"], "test" in row, "validation" in row) == (6, True, False)
    summary = _json(tmp_path / "summary.json")
    assert (summary["steps"], summary["epochs"]) == (8, 1)
    assert (summary["select"], summary["selected_on_test"]) == ("test", True)
    assert _json(tmp_path / "evaluation.json")["select"] == "test"
    assert _json(tmp_path / "checkpoints" / "step_8" / "state.json")["step"] == 8


def test_the_best_checkpoint_is_that_of_the_best_validation(days, tmp_path, monkeypatch):
    scores = iter([0.5, 0.9, 0.7])
    evaluate = steps.Evaluator.__call__
    better = lambda evaluator, split: {**evaluate(evaluator, split), "ensemble_accuracy": next(scores)}  # noqa: E731
    monkeypatch.setattr(steps.Evaluator, "__call__", better)
    words = [*PICTURES, f"--model={small_file()}", "--epochs=3", "--save_every=6", "--keep=3"]
    _taught(tmp_path, f"--dataset=folder:{days}", *words)
    assert _json(tmp_path / "summary.json")["best_epoch"] == _json(tmp_path / "best" / "state.json")["epoch"] == 1
    best, second = (np.load(tmp_path / path / "weights.npz") for path in ("best", "checkpoints/step_10"))
    assert [name for name in best.files if not np.array_equal(best[name], second[name])] == []


@pytest.mark.slow
def test_max_steps_within_the_first_epoch_is_no_mistake(days, here, tmp_path):
    words = ["--epochs=1", "--max_steps=2", f"--workdir={tmp_path}"]
    status, out, err = here("train", f"--dataset=folder:{days}", *PICTURES, *words)
    assert (status, _json(tmp_path / "summary.json")["steps"]) == (0, 2), err
    assert "step 2" in out and (tmp_path / "checkpoints" / "step_2").exists()


@pytest.mark.slow
def test_a_continued_run_is_repeated_with_the_steps_it_took_in_the_end(days, here, tmp_path):
    words = [f"--dataset=folder:{days}", *PICTURES, "--epochs=2", f"--workdir={tmp_path}"]
    assert here("train", *words, "--max_steps=6")[0] == 0
    status, out, _ = here("train", *words)
    assert status == 0 and "continuing from step 6" in out
    assert (_json(tmp_path / "summary.json")["steps"], len(_rows(tmp_path))) == (10, 2)
    assert "--max_steps=0" in (tmp_path / "run.flags").read_text().splitlines()
    assert _json(tmp_path / "config.json")["config"]["max_steps"] == 0
