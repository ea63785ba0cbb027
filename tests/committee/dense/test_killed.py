"""committee.py scenes, killed or stopped while it writes, leaves whole files."""

import pytest
from matplotlib.figure import Figure
from PIL import Image

from dico_tf.committee.committee_file import load
from tests.committee.dense.writer import written
from tests.killed import kills

FILES = {"committee.json", "report.html", "miou_against_cost.png"}


def checked(out):
    """Every file that shows is whole; which turn the committee is of."""
    assert {path.name for path in out.iterdir() if path.name[0] != "."} == FILES
    with Image.open(out / "miou_against_cost.png") as picture:
        picture.load()
    assert (out / "report.html").read_text().endswith("</body></html>\n")
    return load(out / "committee.json").results["turn"]


@pytest.mark.slow
def test_killed_at_any_moment_it_leaves_whole_files(tmp_path):
    written(tmp_path, 0)
    seen = [checked(tmp_path)]
    for _ in kills(lambda: written(tmp_path, len(seen)), every=70):
        seen.append(checked(tmp_path))
    assert seen[1] == 0 and checked(tmp_path) == len(seen)


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
