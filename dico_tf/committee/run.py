"""committee.py search: from answers to a committee, a page and figures."""

import dataclasses
import logging
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from dico_tf.committee import figures, report
from dico_tf.committee import search as searching
from dico_tf.committee.committee_file import Calibration, CommitteeFile, save
from dico_tf.committee.decision import Committee
from dico_tf.committee.guarantee import Guarantee
from dico_tf.committee.guaranteed_search import GuaranteedCommittee, guaranteed_search, reference, right_answers
from dico_tf.committee.html_report import html_page
from dico_tf.committee.inputs import Inputs, collect
from dico_tf.committee.options import Search
from dico_tf.committee.search import Goal, Point, Space
from dico_tf.errors import UserError
from dico_tf.files.atomic import check_writable, write_text

NAME = "committee.json"
_ODD_SCALES = 3.0  # times the spread of another member's logits


def search(asked: Search, values: dict[str, Any], say: Callable[[str], None]) -> Committee:
    """Nothing is written before everything is found; returns the committee."""
    _check(asked)
    out = Path(asked.out)
    check_writable(out, "out")
    promise = Guarantee(risk=asked.risk, confidence=asked.confidence, kind=asked.guarantee) if asked.risk else None
    space, found = _space(asked), collect(asked, values)
    if not asked.members:  # who were warned of when they were asked
        _warn_of_lost(found)
    _warn_of_scales(found, asked)
    aim = reference(found.calibration, asked.reference, space, Goal(measure=asked.cost))
    goal = _goal(asked, found, aim)
    front = _front(found, space, goal)
    kept, texts, record = None, [], None
    if promise:
        kept = _promised(found, asked.reference, space, goal, promise, values["seed"])
        aim = kept.reference
        record = report.promise_record(kept, promise)
        texts.append(report.promise(kept, promise))
    committee = kept.committee if kept else searching.chosen(front, goal).committee
    results = report.results(committee, aim, found.calibration, found.test, asked.cost)
    texts.insert(0, report.text(committee, results))
    _write(out, asked, found, committee, front, texts, {**results, "front": _points(front)}, record)
    say("\n\n".join(texts))
    say(f"\nwritten: {out / NAME}, {out / 'report.html'}")
    return committee


def _check(asked: Search) -> None:
    for name in ("budget", "worst_case", "latency", "risk"):
        value = getattr(asked, name)
        if not (math.isfinite(value) and value >= 0):
            raise UserError(f"--{name}={value:g} must be at least 0, where 0 is none")
    if not 0 <= asked.accuracy <= 1:
        raise UserError(f"--accuracy={asked.accuracy:g} must be a share, such as 0.9")
    if asked.risk and asked.accuracy:
        raise UserError("--risk and --accuracy contradict each other: one is held against the reference, one is not")
    for name in ("largest", "percentiles"):
        if getattr(asked, name) < 1:
            raise UserError(f"--{name}={getattr(asked, name)} must be at least 1")
    if (asked.percentiles + 1) ** (asked.largest - 1) > 2e7:
        raise UserError(f"--largest={asked.largest} with --percentiles={asked.percentiles} are more than 20 million "
                        "settings of each combination: lower one of them")  # fmt: skip


def _space(asked: Search) -> Space:
    names = ("largest", "percentiles", "average", "temperatures", "weights", "score")
    return Space(confidence=asked.gate, **{name: getattr(asked, name) for name in names})


def _goal(asked: Search, found: Inputs, aim: Committee) -> Goal:
    """Without a budget, the reference's accuracy is what is to be reached."""
    accuracy = asked.accuracy or math.nan
    if not (asked.accuracy or asked.budget or asked.latency or asked.risk):
        accuracy = float(right_answers(found.calibration, aim).mean())
    limits = {name: value or math.inf for name, value in
              {"budget": asked.budget, "worst": asked.worst_case, "milliseconds": asked.latency}.items()}  # fmt: skip
    return Goal(measure=asked.cost, accuracy=accuracy, **limits)


def _front(found: Inputs, space: Space, goal: Goal) -> list[Point]:
    with _bar("searching", found, space, goal) as bar:
        return searching.search(found.calibration, space, goal, bar.update)


def _promised(found: Inputs, kind: str, space: Space, goal: Goal, promise: Guarantee, seed: int) -> GuaranteedCommittee:
    with _bar("laying a path", found, space, goal) as bar:
        return guaranteed_search(found.calibration, kind, space, goal, promise, seed, bar.update)


def _bar(title: str, found: Inputs, space: Space, goal: Goal) -> tqdm:
    total = len(searching.candidates(found.calibration, space, goal))
    pause = 0.5 if sys.stderr.isatty() else 30.0  # a log file wants few lines
    return tqdm(total=total, desc=title, leave=False, delay=1, mininterval=pause)


def _warn_of_lost(found: Inputs) -> None:
    for pool in (found.calibration, found.test):
        for member, logits in pool.logits.items():
            if lost := int((~np.isfinite(logits)).any(1).sum()):
                logging.getLogger(__name__).warning(
                    "%s says NaN or infinity about %d of %d images of %s, which counts as wrong "
                    "(logarithms are taken of probabilities above 0)",
                    member, lost, pool.size, pool.name,
                )  # fmt: skip


def _warn_of_scales(found: Inputs, asked: Search) -> None:
    """Means of logits mean little where one member's are many times as far apart as another's."""
    if asked.average != "logits" or asked.temperatures:
        return
    finite = {member: logits[np.isfinite(logits)] for member, logits in found.calibration.logits.items()}
    spread = {member: float(values.std(dtype=np.float64)) for member, values in finite.items() if len(values)}
    if not spread:
        return
    low, high = min(spread, key=spread.get), max(spread, key=spread.get)
    if spread[high] > _ODD_SCALES * spread[low]:
        logging.getLogger(__name__).warning(
            "logits of %s are spread %.1f times as far as those of %s: give --temperatures, or --average=probs",
            high, spread[high] / max(spread[low], 1e-30), low,
        )  # fmt: skip


def _points(front: list[Point]) -> list[dict[str, Any]]:
    return [{"members": list(p.committee.members), "accuracy": p.accuracy, "cost": p.cost, "worst": p.worst,
             "milliseconds": p.milliseconds} for p in front]  # fmt: skip


def _write(
    out: Path, asked: Search, found: Inputs, committee: Committee, front: list[Point], texts: list[str],
    results: dict[str, Any], promise: dict[str, Any] | None,
) -> None:  # fmt: skip
    try:
        out.mkdir(parents=True, exist_ok=True)
        drawn = figures.draw(out, committee, front, found.test, "test", asked.cost) if asked.figures else []
        write_text(out / "report.html", html_page("A committee of " + ", ".join(committee.members), texts, out, drawn))
    except OSError as error:
        raise UserError(f"--out={out} cannot be written: {error.strerror or error}") from None
    save(out / NAME, _saved(found, committee, results, promise))


def _saved(
    found: Inputs, committee: Committee, results: dict[str, Any], promise: dict[str, Any] | None
) -> CommitteeFile:
    pool, members = found.calibration, [found.members[name] for name in committee.members]
    costs = [pool.costs.get(member.name, member.cost) for member in members]
    return CommitteeFile(
        committee=committee,
        members=tuple(dataclasses.replace(m, cost=cost) for m, cost in zip(members, costs, strict=True)),
        classes=pool.classes,
        class_names=found.class_names,
        calibration=Calibration(name=pool.name, fingerprint=pool.fingerprint, images=pool.size),
        results=results,
        promise=promise,
    )
