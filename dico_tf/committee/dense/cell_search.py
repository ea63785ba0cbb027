"""A search for a cascade of segmentation networks over the cells of a grid."""

import dataclasses
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dico_tf import startup
from dico_tf.committee.committee_file import Calibration, CommitteeFile, SavedMember
from dico_tf.committee.decision import Committee
from dico_tf.committee.dense import report
from dico_tf.committee.dense.cell_pool import CellPool
from dico_tf.committee.dense.grid import Grid, window
from dico_tf.committee.dense.measured_routing import framed, measure_routing
from dico_tf.committee.options import SegmentationSearch
from dico_tf.committee.search import Goal, Point, Space
from dico_tf.committee.search_unit import Report
from dico_tf.config import Data
from dico_tf.errors import UserError
from dico_tf.evaluation.cost import Cost

_STRIDE = 16  # sides of windows are multiples of it
_DEAR = 1.1  # a window may cost this many times its share of the image
_MOST_SETTINGS = 1e4  # of one combination; each is evaluated by itself


class CellSearch:
    """A search for a cascade of segmentation networks, which decides about each cell of a grid, by mIoU.

    The arguments are those of `run.find`.
    """

    def __init__(self, options: SegmentationSearch, values: Mapping[str, Any], say: Callable[[str], None]) -> None:
        _check(options)
        self.options, self.values, self.say = options, values, say
        names = ("largest", "percentiles", "average")
        self.space = Space(confidence=options.gate, **{name: getattr(options, name) for name in names})
        self.limits = Goal(budget=options.budget or math.inf, quality="miou")

    def collect(self) -> None:
        """Open the data and the members, and run every member on the calibration and the test images.

        Their answers go to `calibration` and `test`.
        """
        options = self.options
        self.members, self.source, self.split = _opened(options, self.values)
        self.frame = self.source.splits["test"].frame
        grids = _affordable(options, self.members, self.frame, self.say)
        costs = {member.name: member.macs(self.frame) for member in self.members}
        if unknown := [name for name, cost in costs.items() if math.isnan(cost)]:
            raise UserError(f"the multiply-adds of {', '.join(unknown)} cannot be counted; give other --members")
        how = {"confidence": options.gate, "average": options.average}
        self.calibration, self.test = (
            _filled(CellPool(costs, grids, options.largest, **how), self.members, self.source.splits[part], part)
            for part in (self.split, "test")
        )

    def goal(self, against: Committee) -> Goal:
        """Return the goal with the budget of --budget and the target mIoU of --miou.

        Without --miou, the target is NaN (none) with --budget, and otherwise the mIoU of the reference `against`.
        """
        default = math.nan if self.options.budget else self.calibration.point(against).quality
        return dataclasses.replace(self.limits, target=self.options.miou or default)

    def report(self, best: Point, against: Committee, front: list[Point], goal: Goal) -> Report:
        """Return results of the chosen committee `best` on calibration and test images, beside the reference `against`.

        The routing of `best` is run and timed on the test images. `front` and `goal` have no effect.
        """
        by_name = {member.name: member for member in self.members}
        members = [by_name[name] for name in best.committee.members]
        routing = measure_routing(best, members, self.source.splits["test"])
        curves = self.calibration.curves(self.options.percentiles)
        reference = self.calibration.point(against)
        results = report.results(best, reference, self.calibration, self.test, curves, routing)
        return Report(
            title="A committee for scenes",
            texts=[report.text(best.committee, best.grid, results)],
            content=self._content(best, members, results),
        )

    def _content(self, best: Point, members: Sequence, results: Mapping[str, Any]) -> CommitteeFile:
        source, part = self.source, self.source.splits[self.split]
        digest = hashlib.sha256(
            repr((source.fingerprint, self.split)).encode() + part.checksums.astype("<i8").tobytes()
        )
        return CommitteeFile(
            committee=best.committee,
            members=tuple(
                SavedMember(
                    name=member.name,
                    kind=member.kind,
                    source=member.source,
                    sha256=member.checksum,
                    input_size=max(self.frame),
                    cost=Cost(macs=member.macs(self.frame), params=member.params),
                )
                for member in members
            ),
            classes=len(source.class_names),
            class_names=tuple(source.class_names),
            calibration=Calibration(
                name=f"{source.name}, {self.split}", fingerprint=digest.hexdigest()[:32], images=part.size
            ),
            results=results,
            grid=best.grid,
        )


def _check(options: SegmentationSearch) -> None:
    for name in ("budget", "context"):
        value = getattr(options, name)
        if not (math.isfinite(value) and value >= 0):
            raise UserError(f"--{name} must be a finite number from 0, got {value:g}")
    if not 0 <= options.miou <= 1:
        raise UserError(f"--miou must be a share from 0 to 1, got {options.miou:g}")
    for name, least in (("largest", 2), ("percentiles", 1)):
        if getattr(options, name) < least:
            raise UserError(f"--{name} must be at least {least}, got {getattr(options, name)}")
    if (options.percentiles + 1) ** (options.largest - 1) > _MOST_SETTINGS:
        raise UserError(
            f"--largest={options.largest} with --percentiles={options.percentiles} give more than 10,000 settings for "
            "a combination of members, and every setting is evaluated by itself: lower one of the two flags"
        )


def _opened(options: SegmentationSearch, values: Mapping[str, Any]) -> tuple[list, Any, str]:
    """Open the members and the data; return (members, data, name of the calibration split)."""
    startup.tensorflow()
    from dico_tf.data import source as data
    from dico_tf.evaluation.members.segmentation_members import open_segmentation_members

    settings = {name: values[name] for name in ("dataset", "data_dir", "classes", "void")}
    source = data.load(Data(task="segmentation", **settings), values["seed"])
    split = options.calibration or "val"
    if split == "test":
        raise UserError("--calibration=test would fit the gates to the very images that test them: give another split")
    needs = ((split, "give another --calibration"), ("test", "give data with test images, for testing the committee"))
    for name, remedy in needs:
        if name not in source.splits:
            raise UserError(f"{source.name} has no {name} images, it has {', '.join(source.splits)}: {remedy}")
    return open_segmentation_members(options.members, len(source.class_names)), source, split


def _cells(options: SegmentationSearch, frame: tuple[int, int]) -> list[int]:
    """Return the sides of cells in pixels, from --cells; 0 is the whole image.

    By default 0, and 1/2, 1/4 and 1/8 of the short side, rounded down to multiples of 16 but at least 16.
    """
    if not all(cell.isdecimal() for cell in options.cells):
        raise UserError(
            "--cells must list the sides in pixels of square cells, whole numbers from 0 (0 = the whole image), got "
            f"{','.join(options.cells)}; e.g. --cells=0,64"
        )
    short = min(frame)
    given = [int(cell) for cell in options.cells]
    return given or sorted({0, *(max(short // part // _STRIDE * _STRIDE, _STRIDE) for part in (2, 4, 8))})


def _affordable(
    options: SegmentationSearch, members: Sequence, frame: tuple[int, int], say: Callable[[str], None]
) -> list[Grid]:
    """Return the grids whose windows cost every member about their share of the image; `say` names those left out."""
    grids = [Grid(cell=cell, context=options.context, multiple=_STRIDE) for cell in _cells(options, frame)]
    dear = {grid: [member.name for member in members if _is_dear(member, grid, frame)] for grid in grids}
    for grid in (grid for grid in grids if dear[grid]):
        say(
            f"cells of {grid.cell} pixels are left out: their windows cost {', '.join(dear[grid])} more than their "
            "share of the image"
        )
    affordable = [grid for grid in grids if not dear[grid]]
    if not affordable:
        raise UserError(
            f"--cells={','.join(options.cells)}: no size is left, as windows of each cost some member more than their "
            "share of the image; give --cells=0, the whole image"
        )
    return affordable


def _is_dear(member: Any, grid: Grid, frame: tuple[int, int]) -> bool:
    """Return True if a window costs a member over 1.1 times its share of the image, e.g. if the input size is fixed."""
    if not grid.cell:
        return False
    corner = slice(0, grid.cell), slice(0, grid.cell)
    sides = tuple(part.stop - part.start for part in window(corner, grid, *frame))
    return member.macs(sides) > _DEAR * math.prod(sides) / math.prod(frame) * member.macs(frame)


def _filled(pool: CellPool, members: Sequence, split, name: str) -> CellPool:
    """Run the members on every image of a split, add their answers to the pool, and return it.

    `name` is that of the split, for messages. Raises UserError if all pixels are void.
    """
    for images, masks in framed(split, f"running members on {name}"):
        answers = {member.name: member.answer(images) for member in members}
        for place, mask in enumerate(masks):
            pool.add({member: logits[place] for member, logits in answers.items()}, mask)
    if not any(counts.sum() for counts in pool.alone):
        raise UserError(f"no pixel of the {name} images has a class, all are void: give masks with classes")
    return pool
