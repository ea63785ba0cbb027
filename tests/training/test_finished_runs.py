"""A finished run that is started again prints its scores at once."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dico_tf.data import digits
from dico_tf.training.workdir import Claim
from tests.commands import command, succeeded
from tests.small_network import small_file
from tests.tiers import slow_but

ROOT = Path(__file__).parents[2]
WORDS = [
    "--dataset=digits", "--image_size=8", f"--model={small_file()}", "--splits=2", "--batch_size=100", "--epochs=1",
    "--validation=100", "--lr=0.05", "--train_images=200",
]  # fmt: skip
CHANGES = ["no evaluation", "another evaluation", "no final", "stopped", "evaluation_batch_size"]
LIGHT = """import sys
from dico_tf.cli.train import main
assert main(sys.argv[1:]) == 0
assert not {"tensorflow", "keras"} & sys.modules.keys()
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return the folder of a finished run, and what its training printed after the last epoch."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    out = succeeded("train", *WORDS, f"--workdir={folder}")
    return folder, out[out.index("            ") :]


@pytest.fixture
def copy(finished, tmp_path):
    """Return a copy of that folder, which a test may change."""
    shutil.copytree(finished[0], tmp_path / "run")
    return tmp_path / "run"


def test_its_table_is_printed_again_without_tensorflow(finished):
    folder, table = finished
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}
    words = [sys.executable, "-c", LIGHT, *WORDS, f"--workdir={folder}"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{folder} is finished: 1 epochs\n{table}"
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert "class  images  accuracy %" in table


def test_a_moved_folder_is_as_finished_as_before(copy):
    assert succeeded("train", *WORDS, f"--workdir={copy}").startswith(f"{copy} is finished: 1 epochs\n")


@pytest.mark.parametrize("change", slow_but(["no evaluation", "another evaluation"], CHANGES))
def test_what_is_not_finished_or_has_changed_is_evaluated_anew(copy, change):
    summary, evaluation = copy / "summary.json", copy / "evaluation_test.json"
    content, scores, words = json.loads(summary.read_text()), json.loads(evaluation.read_text()), list(WORDS)
    if change == "no evaluation":
        evaluation.unlink()
    elif change == "another evaluation":
        evaluation.write_text(json.dumps({**scores, "ensemble": {**scores["ensemble"], "top1": 0.0}}))
    elif change == "no final":
        summary.write_text(json.dumps({**content, "final": None}))
    elif change == "stopped":
        summary.write_text(json.dumps({**content, "status": "stopped"}))
    else:
        words.append("--evaluation_batch_size=77")
    out = succeeded("train", *words, f"--workdir={copy}")
    assert "is finished" not in out and "continuing from step 2" in out and "ensemble (logits)" in out
    assert json.loads(summary.read_text())["final"] == content["final"]
    assert json.loads(evaluation.read_text())["ensemble"]["top1"] == scores["ensemble"]["top1"]


def test_other_settings_are_refused_as_ever(finished):
    status, _, err = command("train", *WORDS, "--lr=0.06", f"--workdir={finished[0]}")
    assert status == 2 and "--lr was 0.05, is 0.06" in err


def test_a_run_that_another_process_trains_is_not_called_finished(copy):
    claim = Claim(copy)
    status, out, err = command("train", *WORDS, f"--workdir={copy}")
    claim.release()
    assert (status, out) == (2, "") and "another process is training in" in err


def test_the_data_is_loaded_once_for_training_and_evaluation(tmp_path, monkeypatch):
    calls, load = [], digits.load
    monkeypatch.setattr(digits, "load", lambda *arguments: calls.append(arguments) or load(*arguments))
    assert "ensemble (logits)" in succeeded("train", *WORDS, f"--workdir={tmp_path}")
    assert len(calls) == 1 and (tmp_path / "predictions_validation.npz").exists()
