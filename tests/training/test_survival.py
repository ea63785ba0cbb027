"""A run that was killed, stopped or damaged continues with the same command."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from dico_tf.training.checkpoints import Checkpoints
from tests.commands import command, succeeded
from tests.small_network import small

ROOT = Path(__file__).parents[2]
RECIPE = [
    "--dataset=digits",
    "--splits=2",
    "--views=crop+flip,crop+cutout",
    "--mixup=0.2",
    "--image_size=8",
    "--batch_size=128",
    "--epochs=2",
    "--validation=100",
    "--warmup_epochs=1",
    "--lr=0.05",
    "--agreement_warmup_epochs=2",
    "--ema=0.9",
    "--evaluate_ema",
    "--save_every=3",
    "--keep=2",
]


def _steps(folder: Path) -> list[int]:
    return sorted(int(p.name.split("_")[1]) for p in (folder / "checkpoints").glob("step_*"))


def _rows(folder: Path) -> list[dict]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{n: v for n, v in row.items() if n not in ("seconds", "images_per_second")} for row in rows]


def _arrays(folder: Path, *parts: str) -> dict[str, np.ndarray]:
    return {f"{part}:{name}": a for part in parts for name, a in np.load(folder / f"{part}.npz").items()}


def _identical(one: Path, other: Path, *parts: str) -> None:
    a, b = _arrays(one, *parts), _arrays(other, *parts)
    assert a.keys() == b.keys()
    assert [name for name in a if not np.array_equal(a[name], b[name])] == []


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> list[str]:
    """Return the flags of a run that takes seconds."""
    network = tmp_path_factory.mktemp("network") / "small.keras"
    small().save(network)
    return [*RECIPE, f"--model={network}"]


def _killed(recipe: list[str], folder: Path, step: int) -> None:
    """Train in a process of its own, and kill it once a checkpoint of `step` or later is there."""
    words = [sys.executable, "train.py", *recipe, f"--workdir={folder}"]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 600
    try:
        while not any(s >= step for s in _steps(folder)):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < until
            time.sleep(0.02)
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def unharmed(recipe, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("survival") / "unharmed"
    out = succeeded("train", *recipe, f"--workdir={folder}")
    assert "whole budget" in out and "published evidence" in out
    return folder


@pytest.mark.parametrize("step", [12, pytest.param(3, marks=pytest.mark.slow)])  # of 20, which are two epochs
def test_a_killed_run_continues_bit_identically(recipe, unharmed, tmp_path, step):
    folder = tmp_path / "killed"
    _killed(recipe, folder, step)
    out = succeeded("train", *recipe, f"--workdir={folder}")
    assert "continuing from step" in out and "published evidence" not in out  # which is said once
    assert _steps(folder) == _steps(unharmed)
    last = f"checkpoints/step_{_steps(unharmed)[-1]}"
    _identical(unharmed / last, folder / last, "weights", "progress")
    _identical(unharmed / "best", folder / "best", "weights")
    assert _rows(folder) == _rows(unharmed)
    assert np.array_equal(
        np.load(folder / "predictions.npz")["logits"], np.load(unharmed / "predictions.npz")["logits"]
    )


@pytest.mark.slow
def test_sigterm_saves_and_stops(recipe, tmp_path, monkeypatch):
    folder, save = tmp_path / "stopped", Checkpoints.save

    def signalled(checkpoints, *state):
        save(checkpoints, *state)
        monkeypatch.setattr(Checkpoints, "save", save)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Checkpoints, "save", signalled)
    status, _, errors = command("train", *recipe, f"--workdir={folder}")
    assert status == 128 + signal.SIGTERM
    assert "saved; the same command continues" in errors and "Traceback" not in errors
    assert json.loads((folder / "summary.json").read_text())["status"] == "stopped"
    saved = _steps(folder)[-1]
    assert saved >= 3 and f"stopped at step {saved}," in errors
    assert json.loads((folder / f"checkpoints/step_{saved}/state.json").read_text())["step"] == saved


@pytest.mark.slow
def test_a_truncated_checkpoint_is_passed_over_for_the_one_before(recipe, unharmed, tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(unharmed, folder)
    (folder / "summary.json").unlink()  # so that the run is not finished
    before, newest = _steps(folder)[-2:]
    weights = folder / f"checkpoints/step_{newest}/weights.npz"
    weights.write_bytes(weights.read_bytes()[:1000])
    output = succeeded("train", *recipe, f"--workdir={folder}")
    assert "checkpoint refused" in output and "truncated" in output and f"continuing from step {before}," in output
    _identical(unharmed / f"checkpoints/step_{newest}", weights.parent, "weights", "progress")


def test_a_finished_run_is_not_trained_again(recipe, unharmed):
    before = (unharmed / "best" / "weights.npz").read_bytes()
    assert "whole budget" in succeeded("train", *recipe, f"--workdir={unharmed}")
    assert (unharmed / "best" / "weights.npz").read_bytes() == before
    assert len(_rows(unharmed)) == 2


def test_another_config_in_the_same_folder_is_refused(recipe, unharmed):
    before = (unharmed / "config.json").read_bytes()
    status, _, errors = command("train", *recipe, f"--workdir={unharmed}", "--lr=0.06")
    assert status == 2 and "--lr was 0.05, is 0.06" in errors and "Traceback" not in errors
    assert (unharmed / "config.json").read_bytes() == before


def test_a_loss_that_is_not_finite_stops_with_step_and_branch(recipe, tmp_path):
    words = ["--lr=1e30", "--warmup_epochs=0", "--noevaluate_ema", "--ema=0"]
    status, _, errors = command("train", *recipe, f"--workdir={tmp_path / 'diverged'}", *words)
    assert status == 2 and "Traceback" not in errors
    assert "is not finite at step" in errors and "branch" in errors
    for step in _steps(tmp_path / "diverged"):
        arrays = _arrays(tmp_path / "diverged" / f"checkpoints/step_{step}", "weights")
        assert all(np.isfinite(a).all() for a in arrays.values())
