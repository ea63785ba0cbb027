"""Checkpoints are complete or refused; metrics logs; locks of run folders."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dico_tf import config
from dico_tf.errors import UserError
from dico_tf.files import json_files
from dico_tf.files.arrays import read_facts, read_part, write_folder
from dico_tf.training import metrics_log, variables, workdir

ROOT = Path(__file__).parents[2]
ARRAYS = {
    "branch_0/stem_conv/kernel": np.arange(12.0).reshape(3, 4),
    "branch_0/dropout/seed": np.array([1, 2], np.uint32),
}


class Held:
    """A stand-in for a variable, with a shape and `assign`."""

    def __init__(self, value):
        self.value, self.shape = value, value.shape

    def assign(self, value):
        self.value = value


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "step_3"
    write_folder(path, {"weights": ARRAYS}, {"step": 3})
    return path


def test_what_is_written_is_read_to_the_last_bit(folder):
    assert read_facts(folder)["step"] == 3
    result = read_part(folder, "weights")
    assert {n: (a.dtype, a.tolist()) for n, a in result.items()} == {
        n: (a.dtype, a.tolist()) for n, a in ARRAYS.items()
    }


def test_every_truncation_is_refused(folder):
    file = folder / "weights.npz"
    whole = file.read_bytes()
    for length in (0, 1, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        with pytest.raises(UserError, match="truncated or changed"):
            read_facts(folder)
    file.unlink()
    with pytest.raises(UserError, match=r"weights\.npz is missing"):
        read_facts(folder)


@pytest.mark.parametrize("text", ["", "{", '{"format": 2, "files": {}}', "[]"])
def test_a_foreign_state_is_refused(folder, text):
    (folder / "state.json").write_text(text)
    with pytest.raises(UserError):
        read_facts(folder)


def test_a_full_disk_leaves_the_old_folder_intact(folder, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left on device; what was saved before is intact"):
        write_folder(folder, {"weights": ARRAYS}, {"step": 4})
    assert read_facts(folder)["step"] == 3
    assert [p.name for p in folder.parent.iterdir()] == ["step_3"]


def test_a_writer_killed_between_two_renames_loses_nothing(folder, monkeypatch):
    rename, calls = Path.rename, []

    def die_at_the_second(self, target):
        calls.append(target)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", die_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        write_folder(folder, {"weights": ARRAYS}, {"step": 4})
    monkeypatch.undo()
    assert not folder.exists()
    assert read_facts(folder)["step"] == 3
    assert read_part(folder, "weights").keys() == ARRAYS.keys()
    write_folder(folder, {"weights": ARRAYS}, {"step": 5})
    assert read_facts(folder)["step"] == 5


def test_nothing_is_assigned_where_one_array_does_not_fit():
    stored = {name: Held(np.zeros_like(array)) for name, array in ARRAYS.items()}
    wrong = {**ARRAYS, "branch_0/dropout/seed": np.zeros(3, np.uint32)}
    with pytest.raises(
        UserError, match=r"belongs to another network or optimizer: branch_0/dropout/seed is \(3,\), expected \(2,\)"
    ):
        variables.assign(stored, wrong, "best")
    with pytest.raises(UserError, match="stem_conv/kernel is missing; branch_1/x is unknown"):
        variables.assign(
            stored, {"branch_0/dropout/seed": ARRAYS["branch_0/dropout/seed"], "branch_1/x": np.zeros(1)}, "best"
        )
    assert not any(h.value.any() for h in stored.values())
    variables.assign(stored, ARRAYS, "best")
    assert stored["branch_0/stem_conv/kernel"].value.sum() == 66


def test_the_journal_starts_from_the_checkpoints_rows(tmp_path):
    first = metrics_log.MetricsLog(tmp_path, [])
    for epoch in range(3):
        first.add({"epoch": epoch, "loss": 1.0 / (epoch + 1), "branch_accuracy": [0.1, 0.2]})
    first.close()
    (tmp_path / "metrics.jsonl").open("a").write('{"epoch": 3, "lo')
    again = metrics_log.MetricsLog(tmp_path, first.rows[:2])
    again.add({"epoch": 2, "loss": 0.25, "branch_accuracy": [0.3, 0.4]})
    again.close()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(row["epoch"], row["loss"]) for row in rows] == [(0, 1.0), (1, 0.5), (2, 0.25)]
    assert _events(tmp_path / "tensorboard", "branch_accuracy/1") == pytest.approx({0: 0.2, 1: 0.2, 2: 0.4})


def _events(board: Path, tag: str) -> dict[int, float]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = EventAccumulator(str(board)).Reload()
    return {event.step: float(result.Tensors(tag) and _scalar(event)) for event in result.Tensors(tag)}


def _scalar(event) -> float:
    import tensorflow as tf

    return float(tf.make_ndarray(event.tensor_proto))


def test_a_folder_another_process_trains_in_is_refused(tmp_path):
    hold = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from dico_tf.training.workdir import Claim
claim = Claim(Path({str(tmp_path)!r}))
print("held", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="another process is training in"):
            workdir.Claim(tmp_path)
        other.kill()
        other.wait()
    workdir.Claim(tmp_path).release()  # a killed process holds nothing


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write to --workdir"):
        workdir.Claim(tmp_path / "file" / "run")


def test_a_file_system_without_locks_is_not_taken_for_another_process(tmp_path, monkeypatch):
    def lock(stream):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(workdir, "lock", lock)
    with pytest.raises(UserError, match=r"cannot lock --workdir=.* locks available; give a --workdir on"):
        workdir.Claim(tmp_path)


def test_a_folder_of_another_config_is_refused_with_what_differs(tmp_path):
    before = config.from_values({"lr": 0.1, "splits": 2})
    json_files.write(tmp_path / "config.json", workdir.describe(before, {}, "wrn_tiny"))
    assert workdir.check_same(tmp_path, before)
    assert workdir.check_same(tmp_path, config.from_values({"lr": 0.1, "splits": 2, "save_every": 7, "keep": 5}))
    with pytest.raises(UserError, match=r"--lr was 0\.1, is 0\.2"):
        workdir.check_same(tmp_path, config.from_values({"lr": 0.2, "splits": 2}))


def test_too_little_space_is_said_before_training(tmp_path):
    with pytest.raises(UserError, match=r"MB free and the run needs 1000000000000 MB"):
        workdir.check_space(tmp_path, 10**18)
    workdir.check_space(tmp_path, 1)


def test_a_run_is_known_by_the_settings_that_differ_from_their_defaults():
    plain = workdir.run_identity(config.Config())
    assert plain == workdir.run_identity(config.from_values({"task": "classification", "save_every": 7}))
    assert plain != workdir.run_identity(config.from_values({"task": "segmentation"}))
