"""The interface between a committee search and its unit: images, or cells of images."""

import dataclasses
import sys
from collections.abc import Sequence
from typing import Protocol

from tqdm import tqdm

from dico_tf.committee.committee_file import CommitteeFile
from dico_tf.committee.decision import Committee
from dico_tf.committee.pool import Pool
from dico_tf.committee.search import Answers, Goal, Point, Space


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """Texts, committee file, and what figures show, of a finished search."""

    title: str
    texts: Sequence[str]
    content: CommitteeFile
    front: Sequence[Point] = ()  # the best committees for each cost, on calibration images
    test: Pool | None = None  # answers to the test images; None: of cells, whose figures show results of `content`


class Unit(Protocol):
    """The part of a search that differs between images and cells of images."""

    calibration: Answers
    space: Space
    limits: Goal  # without the target

    def collect(self) -> None:
        """Get the members' answers to calibration and test images."""

    def goal(self, against: Committee) -> Goal:
        """Return the limits and the target: --accuracy or --miou, else the result of the reference `against`.

        With --budget, --latency or --risk, but neither --accuracy nor --miou, the target is NaN: none.
        """

    def report(self, best: Point, against: Committee, front: list[Point], goal: Goal) -> Report:
        """Measure the chosen committee `best` and the reference `against` on calibration and test images.

        With --risk, the guaranteed committee is measured instead of `best`.

        Args:
            front: the result of the search, from which `best` was chosen by `goal`.
        """


def progress(title: str, answers: Answers, space: Space, goal: Goal) -> tqdm:
    """Return a progress bar over the candidates of a search."""
    pause = 0.5 if sys.stderr.isatty() else 30.0  # a log file wants few lines
    return tqdm(total=len(answers.candidates(space, goal)), desc=title, leave=False, delay=1, mininterval=pause)
