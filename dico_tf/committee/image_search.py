"""A search for a committee that classifies images: its settings, warnings, guarantee and report."""

import dataclasses
import logging
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from dico_tf.committee import report
from dico_tf.committee.committee_file import Calibration, CommitteeFile
from dico_tf.committee.decision import Committee
from dico_tf.committee.guarantee import Guarantee
from dico_tf.committee.guaranteed_search import GuaranteedCommittee, guaranteed_search, right_answers
from dico_tf.committee.inputs import Inputs, collect
from dico_tf.committee.options import Search
from dico_tf.committee.search import Goal, Point, Space
from dico_tf.committee.search_unit import Report, progress
from dico_tf.errors import UserError

_ODD_SCALES = 3.0  # times the spread of another member's logits
_MOST_SETTINGS = 2e7  # of one combination


class ImageSearch:
    """A search for a committee of image classifiers, by accuracy. The arguments are those of `run.find`."""

    def __init__(self, options: Search, values: Mapping[str, Any]) -> None:
        _check(options)
        self.options, self.values = options, values
        names = ("largest", "percentiles", "average", "temperatures", "weights", "score")
        self.space = Space(confidence=options.gate, **{name: getattr(options, name) for name in names})
        limits = {"budget": options.budget, "worst": options.worst_case, "milliseconds": options.latency}
        self.limits = Goal(measure=options.cost, **{name: value or math.inf for name, value in limits.items()})
        how = {"risk": options.risk, "confidence": options.confidence, "kind": options.guarantee}
        self.guarantee = Guarantee(**how) if options.risk else None

    def collect(self) -> None:
        """Get the members' answers to calibration and test images.

        Warns of NaN or infinity in logits of a run or a table, and of logits of unequal scale if --average=logits is
        used without --temperatures.
        """
        self.inputs = collect(self.options, self.values)
        self.calibration = self.inputs.calibration
        if not self.options.members:  # members that were run for this search were checked then
            _warn_of_lost(self.inputs)
        if self.options.average == "logits" and not self.options.temperatures:
            _warn_of_scales(self.inputs)

    def goal(self, against: Committee) -> Goal:
        """Return the limits of --budget, --worst_case and --latency with a target accuracy.

        The target is --accuracy. Without it, the target is NaN (none) with --budget, --latency or --risk, and
        otherwise the accuracy of the reference `against`.
        """
        options = self.options
        target = options.accuracy or math.nan
        if not (options.accuracy or options.budget or options.latency or options.risk):
            target = float(right_answers(self.calibration, against).mean())
        return dataclasses.replace(self.limits, target=target)

    def report(self, best: Point, against: Committee, front: list[Point], goal: Goal) -> Report:
        """Return results on calibration and test images; with --risk, of the guaranteed committee instead of `best`."""
        committee, record, texts = best.committee, None, []
        if self.guarantee:
            guaranteed = self._guaranteed(goal)
            committee, against = guaranteed.committee, guaranteed.reference
            record = report.promise_record(guaranteed, self.guarantee)
            texts.append(report.promise(guaranteed, self.guarantee))
        inputs, measure = self.inputs, self.options.cost
        results = report.results(committee, against, inputs.calibration, inputs.test, measure)
        return Report(
            title="A committee of " + ", ".join(committee.members),
            texts=[report.text(committee, results), *texts],
            content=_content(inputs, committee, {**results, "front": _points(front)}, record),
            front=front,
            test=inputs.test,
        )

    def _guaranteed(self, goal: Goal) -> GuaranteedCommittee:
        kind, seed = self.options.reference, self.values["seed"]
        with progress("laying a path", self.calibration, self.space, goal) as bar:
            return guaranteed_search(self.calibration, kind, self.space, goal, self.guarantee, seed, bar.update)


def _check(options: Search) -> None:
    for name in ("budget", "worst_case", "latency", "risk"):
        value = getattr(options, name)
        if not (math.isfinite(value) and value >= 0):
            lacking = "guarantee" if name == "risk" else "limit"
            raise UserError(f"--{name} must be a finite number from 0, got {value:g}; 0 = no {lacking}")
    if not 0 <= options.accuracy <= 1:
        raise UserError(f"--accuracy must be a share from 0 to 1, got {options.accuracy:g}")
    if options.risk and options.accuracy:
        raise UserError("--risk and --accuracy contradict each other: --risk compares with the reference; give one")
    for name in ("largest", "percentiles"):
        if getattr(options, name) < 1:
            raise UserError(f"--{name} must be at least 1, got {getattr(options, name)}")
    if (options.percentiles + 1) ** (options.largest - 1) > _MOST_SETTINGS:
        raise UserError(
            f"--largest={options.largest} with --percentiles={options.percentiles} give more than 20 million settings "
            "for a combination of members: lower one of them"
        )


def _warn_of_lost(inputs: Inputs) -> None:
    for pool in (inputs.calibration, inputs.test):
        for member, logits in pool.logits.items():
            if lost := int((~np.isfinite(logits)).any(1).sum()):
                logging.getLogger(__name__).warning(
                    "%s gives NaN or infinity for %d of %d images of %s; these answers count as wrong. If its logits "
                    "are logarithms of probabilities, replace probabilities of 0 by a small number first",
                    member,
                    lost,
                    pool.size,
                    pool.name,
                )


def _warn_of_scales(inputs: Inputs) -> None:
    """Warn if the logits of one member vary over 3 times as much as another's: it would dominate their mean."""
    finite = {member: logits[np.isfinite(logits)] for member, logits in inputs.calibration.logits.items()}
    spread = {member: float(values.std(dtype=np.float64)) for member, values in finite.items() if len(values)}
    if not spread:
        return
    low, high = min(spread, key=spread.get), max(spread, key=spread.get)
    if spread[high] > _ODD_SCALES * spread[low]:
        logging.getLogger(__name__).warning(
            "the logits of %s vary %.1f times as much as those of %s, so their mean follows %s: give --temperatures, "
            "or --average=probs",
            high,
            spread[high] / max(spread[low], 1e-30),
            low,
            high,
        )


def _points(front: list[Point]) -> list[dict[str, Any]]:
    return [
        {
            "members": list(point.committee.members),
            "accuracy": point.quality,
            "cost": point.cost,
            "worst": point.worst,
            "milliseconds": point.milliseconds,
        }
        for point in front
    ]


def _content(
    inputs: Inputs, committee: Committee, results: dict[str, Any], promise: dict[str, Any] | None
) -> CommitteeFile:
    pool, members = inputs.calibration, [inputs.members[name] for name in committee.members]
    costs = [pool.costs.get(member.name, member.cost) for member in members]
    return CommitteeFile(
        committee=committee,
        members=tuple(dataclasses.replace(m, cost=cost) for m, cost in zip(members, costs, strict=True)),
        classes=pool.classes,
        class_names=inputs.class_names,
        calibration=Calibration(name=pool.name, fingerprint=pool.fingerprint, images=pool.size),
        results=results,
        promise=promise,
    )
