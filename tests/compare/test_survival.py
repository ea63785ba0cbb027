"""A comparison with real training: it survives kills, and its processes end with it."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.small_network import small

ROOT = Path(__file__).parents[2]
KILLS = 10
WORDS = [
    "--dataset=digits",
    "--image_size=8",
    "--batch_size=128",
    "--epochs=3",
    "--warmup_epochs=0",
    "--validation=100",
    "--views=crop",
    "--lr=0.05",
    "--save_every=2",
    "--arms=whole:--splits=1;divided:--splits=2",
    "--seeds=3",
    "--jobs=2",
]


def started(words: list[str]) -> subprocess.Popen:
    """Start compare.py, with one thread for each training, so that sums have one order."""
    environment = {**os.environ, "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
    command = [sys.executable, "compare.py", *words]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def children(process: subprocess.Popen) -> list[int]:
    """Return the process ids of the running children."""
    stats = [(int(path.parent.name), path.read_text()) for path in Path("/proc").glob("[0-9]*/stat") if path.exists()]
    return [pid for pid, text in stats if int(text.rsplit(")", 1)[1].split()[1]) == process.pid]


def alive(pid: int) -> bool:
    """Return True if a process runs; one that has ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def table(out: Path) -> dict:
    """Return the content of comparison.json without the command and the measured time."""
    content = json.loads((out / "comparison.json").read_text())
    del content["command"]
    for arm in content["arms"]:
        del arm["cost"]["milliseconds"]
    return content


@pytest.mark.slow
def test_a_comparison_that_is_killed_ten_times_ends_with_the_same_table(tmp_path):
    network = tmp_path / "small.keras"
    small().save(network)
    words = [*WORDS, f"--model={network}"]
    begun = time.monotonic()
    undisturbed = started([*words, f"--out={tmp_path / 'undisturbed'}"])
    output, _ = undisturbed.communicate()
    assert undisturbed.returncode == 0, output
    whole = time.monotonic() - begun

    draw, alone = random.Random(0), []
    killed = [*words, f"--out={tmp_path / 'killed'}"]
    for kill in range(KILLS):
        process = started(killed)
        moment = draw.uniform(0.03, 0.2) * whole
        with pytest.raises(subprocess.TimeoutExpired):
            process.communicate(timeout=moment)
        trainings = children(process)
        process.kill()
        for pid in trainings if kill % 2 else ():  # else the system sends SIGTERM to them
            os.kill(pid, signal.SIGKILL)
        alone += trainings
        process.wait()
    process = started(killed)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert len(alone) > KILLS and not any(map(alive, alone))
    result = table(tmp_path / "killed")
    assert result["missing"] == 0 and result["differences"][0]["half"] is not None
    assert result == table(tmp_path / "undisturbed")
    assert json.loads((tmp_path / "killed" / "comparison.json").read_text())["arms"][1]["cost"]["milliseconds"] > 0
