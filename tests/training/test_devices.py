"""The same global batch gives the same weights on one device, two replicas, and two real processes."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dico_tf.errors import UserError
from dico_tf.training import strategy

ROOT = Path(__file__).parents[2]


def _start(how: str, out: Path, *settings: str, **environment: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "tests.training.three_steps", how, str(out), *settings]
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment}, stderr=subprocess.PIPE, text=True)


def _finish(*processes: subprocess.Popen) -> None:
    try:
        for process in processes:
            _, errors = process.communicate(timeout=900)
            assert process.returncode == 0, errors[-3000:]
    finally:
        for process in processes:
            process.kill()


def _ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def _assert_same(one: Path, other: Path) -> None:
    """Compare weights and scores to 2e-5, statistics to 5e-5: activations near 0 may pass a ReLU or not."""
    a, b = np.load(one), np.load(other)
    assert set(a.files) == set(b.files) and len(a.files) > 40
    for name in a.files:
        difference = float(np.abs(a[name].astype(np.float64) - b[name]).max())
        assert difference <= (5e-5 if "/moving_" in name else 2e-5), (name, difference)


@pytest.fixture(scope="module")
def steps(tmp_path_factory) -> Path:
    """Write one.npz and mirrored.npz, both in one process."""
    folder = tmp_path_factory.mktemp("steps")
    _finish(_start("one,mirrored", folder))
    return folder


def test_two_replicas_learn_what_one_device_learns(steps):
    _assert_same(steps / "one.npz", steps / "mirrored.npz")


@pytest.mark.slow
def test_two_replicas_of_a_preset_learn_what_one_device_learns(tmp_path):
    _finish(_start("one,mirrored", tmp_path, "network='wrn_tiny'"))
    _assert_same(tmp_path / "one.npz", tmp_path / "mirrored.npz")


@pytest.mark.slow
def test_two_replicas_of_branches_of_other_depths_learn_what_one_device_learns(tmp_path):
    _finish(_start("one,mirrored", tmp_path, "network='branches'", "clip_norm=0.5"))
    _assert_same(tmp_path / "one.npz", tmp_path / "mirrored.npz")


@pytest.mark.slow
def test_keras_fit_on_two_replicas_is_our_own_loop(steps, tmp_path):
    """Except that Keras' fit ends by copying the moving average to the weights."""
    _finish(_start("fit", tmp_path))
    a, b = np.load(steps / "one.npz"), np.load(tmp_path / "fit.npz")
    pairs = {name: (a[f"ema/{name}"] if f"ema/{name}" in a else a[name]) for name in a if "/" in name}
    pairs = {name: expected for name, expected in pairs.items() if not name.startswith("ema/")}
    assert len(pairs) > 30
    worst = max((float(np.abs(b[name].astype(np.float64) - expected).max()), name) for name, expected in pairs.items())
    assert worst[0] <= 2e-5, worst
    assert b["scores"] == pytest.approx(a["scores"], abs=1e-5)


@pytest.mark.slow
def test_two_machines_learn_what_one_device_learns(steps, tmp_path):
    workers = [f"127.0.0.1:{port}" for port in _ports(2)]
    processes = []
    for index in range(2):
        config = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
        (tmp_path / str(index)).mkdir()
        processes.append(_start("machine", tmp_path / str(index), TF_CONFIG=json.dumps(config)))
    _finish(*processes)
    _assert_same(steps / "one.npz", tmp_path / "0" / "machine.npz")
    assert not (tmp_path / "1" / "machine.npz").exists(), "only the chief writes"


@pytest.mark.slow
def test_clipping_sees_the_global_batch_on_two_replicas(tmp_path):
    _finish(_start("one,mirrored", tmp_path, "clip_norm=0.5", "network='wrn_tiny'"))
    _assert_same(tmp_path / "one.npz", tmp_path / "mirrored.npz")


def test_a_batch_that_does_not_divide_among_replicas_is_refused():
    place = strategy.Devices(type("Three", (), {"num_replicas_in_sync": 3})())
    with pytest.raises(UserError, match="--batch_size=128 does not divide among 3 replicas"):
        strategy.share(128, place)


@pytest.mark.parametrize("text", ["{", "{}", '{"cluster": {"worker": 1}}', "[]"])
def test_a_broken_cluster_description_is_one_message(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(UserError, match="TF_CONFIG is not a cluster description"):
        strategy.cluster()


def test_several_workers_are_asked_for_by_name(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(UserError, match="needs TF_CONFIG to name at least two workers"):
        strategy.devices("multi_worker")


@pytest.mark.slow
def test_two_machines_train_by_the_same_command_and_only_the_chief_writes(tmp_path):
    workers = [f"127.0.0.1:{port}" for port in _ports(2)]
    command = [sys.executable, "train.py", "--dataset=digits", "--model=wrn_tiny", "--splits=2", "--epochs=1"]
    command += ["--batch_size=64", "--views=crop", "--ema=0.9", "--save_every=8", f"--workdir={tmp_path / 'run'}"]
    processes = []
    for index in range(2):
        config = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
        environment = {**os.environ, "TF_CONFIG": json.dumps(config)}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        processes.append(subprocess.Popen(command, cwd=ROOT, env=environment, **pipes))
    try:
        outputs = [process.communicate(timeout=900) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert "2 replicas" in outputs[0][0] and "whole budget" in outputs[0][0]
    assert "whole budget" not in outputs[1][0]
    rows = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert len(rows) == 1 and "validation_ema" in json.loads(rows[0])
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "finished"


@pytest.mark.parametrize(
    ("splits", "environment", "expected"),
    [("64", {}, [1, 2]), ("1", {}, []), ("64", {"TF_NUM_INTRAOP_THREADS": "2"}, [])],
)
def test_branches_enough_for_all_cores_run_side_by_side(monkeypatch, splits, environment, expected):
    numbers = []
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(strategy.image_decoding, "cores", lambda: 2)
    for name in ("set_intra_op_parallelism_threads", "set_inter_op_parallelism_threads"):
        monkeypatch.setattr(strategy.tf.config.threading, name, numbers.append)
    strategy.share_threads(int(splits))
    assert numbers == expected


@pytest.mark.slow
def test_a_process_of_many_branches_begins_with_one_thread_for_each():
    code = (
        "import tensorflow as tf\nfrom dico_tf.training.strategy import share_threads\n"
        "share_threads(64)\nprint(tf.config.threading.get_intra_op_parallelism_threads())"
    )
    plain = {name: value for name, value in os.environ.items() if name != "TF_NUM_INTRAOP_THREADS"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=plain, capture_output=True, text=True)
    assert done.stdout.strip() == ("0" if (os.cpu_count() or 1) == 1 else "1"), done.stderr
