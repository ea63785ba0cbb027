"""committee.py scenes, killed or stopped while it writes, leaves whole files."""

import os
import random
import signal
import time

import pytest
from matplotlib.figure import Figure
from PIL import Image

from dico_tf.committee.decision import Committee
from dico_tf.committee.dense import run
from dico_tf.committee.dense.grid import Grid
from dico_tf.committee.options import Scenes
from dico_tf.committee.saved import Calibration, Member, Saved, load, save

NAMES = ("a", "b")
FILES = {"committee.json", "report.html", "miou_against_cost.png"}


def results(n):
    """Just what is drawn of them."""
    rows = [{"name": name, "test": {"cost": 1e6 * (k + 1), "miou": 0.5}} for k, name in enumerate(("ours", *NAMES))]
    return {"rows": rows, "curves": [{"cell": 0, "test": [[1e6, 0.4], [2e6 + n, 0.5]]}], "turn": n}


def written(out, n):
    """As `scenes` ends."""
    run._write(out, Scenes(), f"the text of {n}", results(n))
    members = tuple(Member(name=name, kind="run", source=name, sha256="", input_size=8) for name in NAMES)
    about = Calibration(name="val", fingerprint="f", images=1)
    committee = Committee(members=NAMES, gates=(0.5,))
    save(out / run.NAME, Saved(committee=committee, members=members, classes=2, class_names=None, calibration=about,
                               results=results(n), grid=Grid()))  # fmt: skip


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
    for turn in range(8):
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            try:
                os.write(writer, b"!")
                for n in range(1000):
                    written(tmp_path, 1000 * turn + n)
            finally:
                os._exit(1)
        os.read(reader, 1)
        os.close(reader), os.close(writer)
        time.sleep(moments.uniform(0.0, last))
        os.kill(child, signal.SIGKILL)
        assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
        seen.add(checked(tmp_path))
    assert len(seen) > 2  # the kills met writers at work


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
