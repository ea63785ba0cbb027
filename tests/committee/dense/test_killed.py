"""committee.py scenes, killed or stopped while it writes, leaves whole files."""

import os

import pytest

from dico_tf.committee.committee_file import load
from tests.committee.dense.writer import written
from tests.killed import kills

FILES = {"committee.json", "report.html"}


def checked(out):
    """Every file that shows is whole; which turn the committee is of."""
    assert {path.name for path in out.iterdir() if path.name[0] != "."} == FILES
    assert (out / "report.html").read_text().endswith("</body></html>\n")
    return load(out / "committee.json").results["turn"]


@pytest.mark.slow
def test_killed_at_any_moment_it_leaves_whole_files(tmp_path):
    written(tmp_path, 0)
    seen = [checked(tmp_path)]
    for _ in kills(lambda: written(tmp_path, len(seen)), every=70):
        seen.append(checked(tmp_path))
    assert seen[1] == 0 and checked(tmp_path) == len(seen)


def test_stopped_half_way_through_the_page_it_leaves_the_old_one(tmp_path, monkeypatch):
    written(tmp_path, 1)

    def half(handle):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", half)
    with pytest.raises(KeyboardInterrupt):
        written(tmp_path, 2)
    assert checked(tmp_path) == 1 and "the text of 1" in (tmp_path / "report.html").read_text()
