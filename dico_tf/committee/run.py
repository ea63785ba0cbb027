"""`committee.py search`: from answers of members to committee.json and report.html."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dico_tf.committee.committee_file import save
from dico_tf.committee.decision import Committee
from dico_tf.committee.options import Search, SegmentationSearch
from dico_tf.committee.search import chosen, reference, search
from dico_tf.committee.search_unit import Report, Unit, progress
from dico_tf.errors import UserError
from dico_tf.files.atomic import check_writable

NAME = "committee.json"
WritePage = Callable[[Report, Path], str]  # writes report.html into a folder and returns a line about it


def find(
    options: Search | SegmentationSearch, values: Mapping[str, Any], say: Callable[[str], None], write_page: WritePage
) -> Committee:
    """Search for a committee, write its files into the folder --out, and return it.

    Files are written only after the search has ended. Raises UserError if no committee reaches the goal.

    Args:
        values: values of the flags that runs have, too, by name: workdir, dataset, seed and others.
        say: called with the texts for the terminal.
    """
    unit = _unit(options, values, say)
    out = Path(options.out)
    check_writable(out, "out")
    unit.collect()
    against = reference(unit.calibration, options.reference, unit.space, unit.limits)
    goal = unit.goal(against)
    with progress("searching", unit.calibration, unit.space, goal) as bar:
        front = search(unit.calibration, unit.space, goal, bar.update)
    report = unit.report(chosen(front, goal), against, front, goal)
    line = write(report, out, write_page)
    say("\n\n".join(report.texts))
    say(f"\nwritten: {out / NAME}\n{line}")
    return report.content.committee


def _unit(options: Search | SegmentationSearch, values: Mapping[str, Any], say: Callable[[str], None]) -> Unit:
    if isinstance(options, SegmentationSearch):
        from dico_tf.committee.dense.cell_search import CellSearch

        return CellSearch(options, values, say)
    from dico_tf.committee.image_search import ImageSearch

    return ImageSearch(options, values)


def write(report: Report, out: Path, write_page: WritePage) -> str:
    """Write report.html and committee.json into a folder, created if missing, and return the line about the page."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out={out} cannot be written: {error.strerror or error}; give another folder") from None
    line = write_page(report, out)
    save(out / NAME, report.content)
    return line
