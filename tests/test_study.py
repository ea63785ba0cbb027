"""A run of a study saves its state when the study is stopped."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.edge.workers import until
from tests.small_network import small_file

ROOT = Path(__file__).parents[1]
WORDS = [
    "--dataset=digits", "--image_size=8", f"--model={small_file()}", "--batch_size=100", "--epochs=100000",
    "--validation=100",
]  # fmt: skip
STUDY = """import sys
from pathlib import Path
from benchmarks.study import trained
trained(sys.argv[2:], Path(sys.argv[1]), 10000)
"""


def status(folder: Path) -> str:
    path = folder / "summary.json"
    return json.loads(path.read_text())["status"] if path.exists() else ""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_study_that_is_killed_leaves_a_run_that_saved_its_state(tmp_path, number):
    folder = tmp_path / "run"
    process = subprocess.Popen([sys.executable, "-c", STUDY, folder, *WORDS], cwd=ROOT)
    until(lambda: (folder / "metrics.jsonl").exists(), seconds=600)
    process.send_signal(number)
    process.wait()
    until(lambda: status(folder) == "stopped", seconds=600)
    assert any((folder / "checkpoints").glob("step_*/state.json"))
