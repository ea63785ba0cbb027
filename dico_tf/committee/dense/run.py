"""committee.py scenes: from segmentation networks to a cascade over cells, what it does, a page and a figure."""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dico_tf import startup
from dico_tf.committee.committee_file import Calibration, CommitteeFile, SavedMember, save
from dico_tf.committee.dense import report
from dico_tf.committee.dense.grid import Grid, window
from dico_tf.committee.dense.search import Goal, Point, Pool, chosen, curves, front
from dico_tf.committee.dense.work import at_work, framed
from dico_tf.committee.html_report import html_page
from dico_tf.committee.options import SegmentationSearch
from dico_tf.config import Data
from dico_tf.errors import UserError
from dico_tf.evaluation.cost import Cost
from dico_tf.files.atomic import check_writable, write_text

NAME = "committee.json"
_STRIDE = 16  # sides of windows are multiples of it
_DEAR = 1.1  # times what a window is billed: by its share of the picture


def scenes(asked: SegmentationSearch, values: Mapping[str, Any], say: Callable[[str], None]) -> Point:
    """Nothing is written before everything is found; returns the committee and its grid."""
    _check(asked)
    check_writable(Path(asked.out), "out")
    members, source, split = _opened(asked, values)
    frame = source.splits["test"].frame
    grids = _worthwhile(asked, members, frame, say)
    how = {"confidence": asked.gate, "average": asked.average}
    costs = {member.name: member.macs(frame) for member in members}
    unknown = [name for name, cost in costs.items() if math.isnan(cost)]
    if unknown:
        raise UserError(f"the multiply-adds of {', '.join(unknown)} cannot be counted, so nothing can be weighed up")
    calibration, test = (
        _known(Pool(costs, grids, asked.largest, **how), members, source.splits[part], part) for part in (split, "test")
    )
    found = curves(calibration, asked.percentiles)
    points = [calibration.single(name) for name in calibration.names]
    points += [point for curve in found.values() for point in curve]
    aim = _reference(calibration, asked.reference)
    goal = Goal(miou=asked.miou or (math.nan if asked.budget else aim.miou), budget=asked.budget or math.inf)
    best = chosen(front(points), goal)
    by_name = {member.name: member for member in members}
    worked = at_work(best, [by_name[name] for name in best.committee.members], source.splits["test"])
    results = report.results(best, aim, calibration, test, found, worked)
    text = report.text(best.committee, best.grid, results)
    _write(Path(asked.out), asked, text, results)
    save(Path(asked.out) / NAME, _saved(best, members, source, split, results, frame))
    say(text)
    say(f"\nwritten: {Path(asked.out) / NAME}, {Path(asked.out) / 'report.html'}")
    return best


def _check(asked: SegmentationSearch) -> None:
    for name in ("budget", "context"):
        value = getattr(asked, name)
        if not (math.isfinite(value) and value >= 0):
            raise UserError(f"--{name}={value:g} must be at least 0")
    if not 0 <= asked.miou <= 1:
        raise UserError(f"--miou={asked.miou:g} must be a share, such as 0.7")
    if asked.largest < 2 or asked.percentiles < 1:
        raise UserError(f"--largest={asked.largest}, --percentiles={asked.percentiles}: at least 2 members, 1 quantile")
    if (asked.percentiles + 1) ** (asked.largest - 1) > 1e4:
        raise UserError(f"--largest={asked.largest} with --percentiles={asked.percentiles} are more than 10 000 "
                        "settings, each looked at by itself: lower one of them")  # fmt: skip


def _opened(asked: SegmentationSearch, values: Mapping[str, Any]) -> tuple[list, Any, str]:
    startup.tensorflow()
    from dico_tf.data import source as data
    from dico_tf.evaluation.members.segmentation_members import open_segmentation_members

    told = {name: values[name] for name in ("dataset", "data_dir", "classes", "void")}
    source = data.load(Data(task="segmentation", **told), values["seed"])
    split = asked.calibration or "val"
    for name in (split, "test"):
        if name not in source.splits:
            raise UserError(f"{source.name} has no {name} images; it has {', '.join(source.splits)}: gates are fitted "
                            "to --calibration images and judged by others, those of test")  # fmt: skip
    if split == "test":
        raise UserError("--calibration=test: gates would be fitted to the very images that judge them")
    return open_segmentation_members(asked.members, len(source.class_names)), source, split


def _cells(asked: SegmentationSearch, frame: tuple[int, int]) -> list[int]:
    """As asked for, or the whole image, and a half, a quarter and an eighth of its short side."""
    if not all(cell.isdecimal() for cell in asked.cells):
        raise UserError(f"--cells={','.join(asked.cells)}: sides in pixels, 0 for the whole image")
    short = min(frame)
    given = [int(cell) for cell in asked.cells]
    return given or sorted({0, *(max(short // part // _STRIDE * _STRIDE, _STRIDE) for part in (2, 4, 8))})


def _worthwhile(
    asked: SegmentationSearch, members: Sequence, frame: tuple[int, int], say: Callable[[str], None]
) -> list[Grid]:
    """Grids whose windows cost members what they are billed; of others a picture's windows cost more than it says."""
    grids = [Grid(cell=cell, context=asked.context, multiple=_STRIDE) for cell in _cells(asked, frame)]
    dear = {grid: [m.name for m in members if _is_dear(m, grid, frame)] for grid in grids}
    for grid in (grid for grid in grids if dear[grid]):
        say(f"cells of {grid.cell} pixels are left out: windows of them cost {', '.join(dear[grid])} more than their "
            "share of the picture")  # fmt: skip
    kept = [grid for grid in grids if not dear[grid]]
    if not kept:
        raise UserError(f"--cells={','.join(asked.cells)}: nothing is left, give --cells=0, the whole picture")
    return kept


def _is_dear(member: Any, grid: Grid, frame: tuple[int, int]) -> bool:
    """As windows are to networks of one fixed size, and those smaller than a crop to networks of crops."""
    if not grid.cell:
        return False
    corner = slice(0, grid.cell), slice(0, grid.cell)
    sides = tuple(part.stop - part.start for part in window(corner, grid, *frame))
    return member.macs(sides) > _DEAR * math.prod(sides) / math.prod(frame) * member.macs(frame)


def _known(pool: Pool, members: Sequence, split, name: str) -> Pool:
    for images, masks in framed(split, f"asking about {name}"):
        said = {member.name: member.answer(images) for member in members}
        for place, mask in enumerate(masks):
            pool.add({member: logits[place] for member, logits in said.items()}, mask)
    if not any(counts.sum() for counts in pool.alone):
        raise UserError(f"no pixel of the {name} images has a class, all are void: there is nothing to judge by")
    return pool


def _reference(pool: Pool, kind: str) -> Point:
    if kind == "largest":
        return pool.single(pool.names[-1])
    if kind == "ensemble":
        return pool.together(pool.orders[-1])
    if kind not in pool.names:
        raise UserError(f"--reference={kind} is neither largest, nor ensemble, nor a member: {', '.join(pool.names)}")
    return pool.single(kind)


def _write(out: Path, asked: SegmentationSearch, text: str, results: Mapping[str, Any]) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        drawn = [report.draw(out, results)] if asked.figures else []
        write_text(out / "report.html", html_page("A committee for scenes", [text], out, drawn))
    except OSError as error:
        raise UserError(f"--out={out} cannot be written: {error.strerror or error}") from None


def _saved(best: Point, members: Sequence, source, split: str, results: Mapping[str, Any], frame) -> CommitteeFile:
    by_name = {member.name: member for member in members}
    chosen = [by_name[name] for name in best.committee.members]
    part = source.splits[split]
    digest = hashlib.sha256(repr((source.fingerprint, split)).encode() + part.checksums.astype("<i8").tobytes())
    return CommitteeFile(
        committee=best.committee,
        members=tuple(
            SavedMember(name=m.name, kind=m.kind, source=m.source, sha256=m.checksum, input_size=max(frame),
                   cost=Cost(macs=m.macs(frame), params=m.params))
            for m in chosen
        ),
        classes=len(source.class_names),
        class_names=tuple(source.class_names),
        calibration=Calibration(name=f"{source.name}, {split}", fingerprint=digest.hexdigest()[:32], images=part.size),
        results=results,
        grid=best.grid,
    )  # fmt: skip
