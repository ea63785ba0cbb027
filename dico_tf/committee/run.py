"""`committee.py search`: from answers of members to committee.json, an HTML page and figures."""

import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from dico_tf.committee.committee_file import CommitteeFile, save
from dico_tf.committee.decision import Committee
from dico_tf.committee.html_report import html_page
from dico_tf.committee.options import Search, SegmentationSearch
from dico_tf.committee.search import Answers, Goal, Point, Space, chosen, reference, search
from dico_tf.errors import UserError
from dico_tf.files.atomic import check_writable, write_text

NAME = "committee.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """Texts, figures and committee file of a finished search."""

    title: str
    texts: Sequence[str]
    draw: Callable[[Path], list[str]]  # writes figures into a folder and returns their names
    content: CommitteeFile


class Unit(Protocol):
    """The part of a search that differs between images and cells of images."""

    calibration: Answers
    space: Space
    limits: Goal  # without the target

    def collect(self) -> None:
        """Get the members' answers to calibration and test images."""

    def goal(self, against: Committee) -> Goal:
        """Return the limits and the target, which is the reference's result if no other goal is given."""

    def report(self, best: Point, against: Committee, front: list[Point], goal: Goal) -> Report:
        """Measure the chosen committee on calibration and test images."""


def find(options: Search | SegmentationSearch, values: Mapping[str, Any], say: Callable[[str], None]) -> Committee:
    """Search a committee and write its files; nothing is written before the search has ended.

    Args:
        values: flags of a run and its data.
        say: takes the text for the terminal.
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


def progress(title: str, answers: Answers, space: Space, goal: Goal) -> tqdm:
    """Return a progress bar over the candidates of a search."""
    pause = 0.5 if sys.stderr.isatty() else 30.0  # a log file wants few lines
    return tqdm(total=len(answers.candidates(space, goal)), desc=title, leave=False, delay=1, mininterval=pause)


def write(out: Path, title: str, texts: Sequence[str], draw: Callable[[Path], list[str]]) -> None:
    """Write report.html with its texts and figures into a folder, which is made."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_text(out / "report.html", html_page(title, list(texts), out, draw(out)))
    except OSError as error:
        raise UserError(f"--out={out} cannot be written: {error.strerror or error}; give another folder") from None
