"""`committee.py search`: from answers of members to committee.json, an HTML page and figures."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dico_tf.committee.committee_file import save
from dico_tf.committee.decision import Committee
from dico_tf.committee.html_report import html_page
from dico_tf.committee.options import Search, SegmentationSearch
from dico_tf.committee.search import chosen, reference, search
from dico_tf.committee.search_unit import Unit, progress
from dico_tf.errors import UserError
from dico_tf.files.atomic import check_writable, write_text

NAME = "committee.json"


def find(options: Search | SegmentationSearch, values: Mapping[str, Any], say: Callable[[str], None]) -> Committee:
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
    write(out, report.title, report.texts, report.draw if options.figures else lambda folder: [])
    save(out / NAME, report.content)
    say("\n\n".join(report.texts))
    say(f"\nwritten: {out / NAME}, {out / 'report.html'}")
    return report.content.committee


def _unit(options: Search | SegmentationSearch, values: Mapping[str, Any], say: Callable[[str], None]) -> Unit:
    if isinstance(options, SegmentationSearch):
        from dico_tf.committee.dense.cell_search import CellSearch

        return CellSearch(options, values, say)
    from dico_tf.committee.image_search import ImageSearch

    return ImageSearch(options, values)


def write(out: Path, title: str, texts: Sequence[str], draw: Callable[[Path], list[str]]) -> None:
    """Write report.html into a folder, created if missing, with texts and the figures that `draw` writes there."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_text(out / "report.html", html_page(title, list(texts), out, draw(out)))
    except OSError as error:
        raise UserError(f"--out={out} cannot be written: {error.strerror or error}; give another folder") from None
