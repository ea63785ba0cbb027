"""Real processes, really killed: the same command goes on as if nothing had happened."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
RECIPE = [
    "--dataset=digits", "--model=wrn_tiny", "--splits=2", "--views=crop+flip,crop+cutout", "--mixup=0.2",
    "--batch_size=64", "--epochs=2", "--validation=100", "--warmup_epochs=1", "--lr=0.05",
    "--agreement_warmup_epochs=2", "--ema=0.9", "--evaluate_ema", "--save_every=3", "--keep=2",
]  # fmt: skip


def _command(folder: Path, *more: str) -> list[str]:
    return [sys.executable, "train.py", *RECIPE, f"--workdir={folder}", *more]


def _train(folder: Path, *more: str) -> subprocess.CompletedProcess:
    return subprocess.run(_command(folder, *more), cwd=ROOT, capture_output=True, text=True, timeout=300)


def _steps(folder: Path) -> list[int]:
    return sorted(int(p.name.split("_")[1]) for p in (folder / "checkpoints").glob("step_*"))


def _interrupt_after(folder: Path, step: int, number: int) -> subprocess.Popen:
    """Sends the signal once the checkpoint of `step` is there."""
    process = subprocess.Popen(_command(folder), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 240
    while not any(s >= step for s in _steps(folder)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.02)
    os.kill(process.pid, number)
    return process


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
def unharmed(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("survival") / "unharmed"
    done = _train(folder)
    assert done.returncode == 0, done.stderr
    assert "whole budget" in done.stdout
    return folder


def test_a_killed_run_continues_bit_identically(unharmed, tmp_path):
    folder = tmp_path / "killed"
    for step in (3, 21):  # within the first and the second epoch
        _interrupt_after(folder, step, signal.SIGKILL).communicate()
    done = _train(folder)
    assert done.returncode == 0, done.stderr
    assert "continuing from step" in done.stdout
    assert _steps(folder) == _steps(unharmed)
    last = f"checkpoints/step_{_steps(unharmed)[-1]}"
    _identical(unharmed / last, folder / last, "weights", "progress")
    _identical(unharmed / "best", folder / "best", "weights")
    assert _rows(folder) == _rows(unharmed)
    assert np.array_equal(
        np.load(folder / "predictions.npz")["logits"], np.load(unharmed / "predictions.npz")["logits"]
    )


def test_sigterm_saves_and_stops(unharmed, tmp_path):
    folder = tmp_path / "stopped"
    process = _interrupt_after(folder, 3, signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
    assert "saved; the same command continues" in errors and "Traceback" not in errors
    assert json.loads((folder / "summary.json").read_text())["status"] == "stopped"
    saved = _steps(folder)[-1]
    state = json.loads((folder / f"checkpoints/step_{saved}/state.json").read_text())
    assert state["step"] == saved
    assert f"stopped at step {saved}," in errors


def test_a_truncated_checkpoint_is_passed_over_for_the_one_before(unharmed, tmp_path):
    folder = tmp_path / "damaged"
    _interrupt_after(folder, 6, signal.SIGKILL).communicate()
    newest = folder / f"checkpoints/step_{_steps(folder)[-1]}/weights.npz"
    newest.write_bytes(newest.read_bytes()[:1000])
    done = _train(folder)
    assert done.returncode == 0, done.stderr
    assert "checkpoint refused" in done.stdout and "truncated" in done.stdout
    assert f"continuing from step {_steps_before(newest)}," in done.stdout
    _identical(unharmed / "best", folder / "best", "weights")


def _steps_before(newest: Path) -> int:
    return int(newest.parent.name.split("_")[1]) - 3


def test_a_finished_run_is_not_trained_again(unharmed):
    before = (unharmed / "best" / "weights.npz").read_bytes()
    done = _train(unharmed)
    assert done.returncode == 0 and "whole budget" in done.stdout
    assert (unharmed / "best" / "weights.npz").read_bytes() == before
    assert len(_rows(unharmed)) == 2


def test_another_config_in_the_same_folder_is_refused(unharmed):
    before = (unharmed / "config.json").read_bytes()
    done = _train(unharmed, "--lr=0.06")
    assert done.returncode == 2 and "--lr was 0.05, is 0.06" in done.stderr and "Traceback" not in done.stderr
    assert (unharmed / "config.json").read_bytes() == before


def test_a_loss_that_is_not_finite_stops_with_step_and_branch(tmp_path):
    done = _train(tmp_path / "diverged", "--lr=1e30", "--warmup_epochs=0", "--noevaluate_ema", "--ema=0")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "is not finite at step" in done.stderr and "branch" in done.stderr
    for step in _steps(tmp_path / "diverged"):
        arrays = _arrays(tmp_path / "diverged" / f"checkpoints/step_{step}", "weights")
        assert all(np.isfinite(a).all() for a in arrays.values())
