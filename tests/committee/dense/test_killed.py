"""committee.py scenes, killed or stopped while it writes, leaves whole files."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image

from dico_tf.committee.saved import load
from tests.committee.dense.writer import written

ROOT = Path(__file__).parents[3]
FILES = {"committee.json", "report.html", "miou_against_cost.png"}


def checked(out):
    """Every file that shows is whole; which turn the committee is of."""
    assert {path.name for path in out.iterdir() if path.name[0] != "."} == FILES
    with Image.open(out / "miou_against_cost.png") as picture:
        picture.load()
    assert (out / "report.html").read_text().endswith("</body></html>\n")
    return load(out / "committee.json").results["turn"]


def test_killed_at_any_moment_it_leaves_whole_files(tmp_path):
    written(tmp_path, 0)
    begun = time.perf_counter()
    written(tmp_path, 0)
    last, moments, seen = 1.5 * (time.perf_counter() - begun), random.Random(0), {checked(tmp_path)}
    for turn in range(1, 5):
        words = [sys.executable, "-m", "tests.committee.dense.writer", str(tmp_path), str(turn)]
        with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout.readline() == "0\n"  # it has written once, and is at it again
            time.sleep(moments.uniform(0.0, last))
            writer.kill()
        assert writer.returncode == -signal.SIGKILL
        seen.add(checked(tmp_path))
    assert len(seen) == 5  # each of its own writer


def test_stopped_half_way_through_a_figure_it_leaves_the_old_one(tmp_path, monkeypatch):
    written(tmp_path, 1)

    def half(figure, file, **_):
        with file if hasattr(file, "write") else open(file, "wb") as stream:
            stream.write(b"\x89PNG")
            raise KeyboardInterrupt

    monkeypatch.setattr(Figure, "savefig", half)
    with pytest.raises(KeyboardInterrupt):
        written(tmp_path, 2)
    assert checked(tmp_path) == 1
