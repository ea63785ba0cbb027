"""Content of comparison.json: costs and scores of the arms, and their differences to the first arm."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dico_tf import __version__
from dico_tf.compare.conclusion import conclusion
from dico_tf.compare.finished import FinishedRun
from dico_tf.compare.paired import PairedDifference, holm, paired_difference
from dico_tf.compare.plan import Arm, ArmRun, ComparisonPlan
from dico_tf.errors import UserError

NAME = "comparison.json"
SCORE, SPLIT = "top1", "test"
FEWEST_SEEDS = 3  # for an interval
COST_TOLERANCE = 0.05  # arms whose cost differs from the first arm's by more are marked

Finished = Mapping[ArmRun, FinishedRun]


def content(
    plan: ComparisonPlan, runs: Finished, losses: Mapping[ArmRun, float], command: str, flagfile: str
) -> dict[str, Any]:
    """Return the content of comparison.json, without "format".

    Args:
        plan: of the comparison.
        runs: the finished ones, without trials.
        losses: validation NLL of the finished trials; infinity if one has diverged, which is written as null.
        command: that the user typed, as text.
        flagfile: value of its --flagfile, or "".

    Raises:
        UserError: if two arms were tested on different images, or have other classes.
    """
    _check_classes(runs)
    arms = [_arm(plan, arm, runs, losses) for arm in plan.arms]
    for arm in arms:
        _compare_cost(arm, arms[0]["cost"])
    differences = _differences(plan, runs)
    missing = len([run for run in plan.runs() if run not in runs and run not in losses])
    one = next(iter(runs.values()), None)
    result = {
        "command": command,
        "flagfile": flagfile,
        "versions": one.versions if one else {"dico_tf": __version__},
        "score": SCORE,
        "split": SPLIT,
        "images": len(set().union(*(run.ids.tolist() for run in runs.values()))),
        "class_names": list(one.class_names) if one else [],
        "seeds": list(plan.seeds),
        "missing": missing,
        "arms": arms,
        "differences": differences,
    }
    return {**result, "conclusion": conclusion(result)}


def _arm(plan: ComparisonPlan, arm: Arm, runs: Finished, losses: Mapping[ArmRun, float]) -> dict[str, Any]:
    own = {seed: runs[run] for seed in plan.seeds if (run := ArmRun(arm.name, seed)) in runs}
    chosen = plan.chosen(arm.name) or {}
    one = next(iter(own.values()), None)
    return {
        "name": arm.name,
        "flags": list(arm.flags),
        "chosen": plan.grid.typed(chosen),
        "trials": [
            {
                "values": plan.grid.typed(dict(run.trial)),
                "nll": losses[run] if math.isfinite(losses[run]) else None,
                "run": run.folder,
            }
            for run in plan.trials(arm.name)
            if run in losses
        ],
        "at_edge": plan.grid.at_edge(chosen),
        "runs": [ArmRun(arm.name, seed).folder for seed in own],
        "cost": {
            "params": one.params if one else None,
            "macs": one.macs if one else None,
            "milliseconds": plan.milliseconds.get(arm.name),
        },
        "scores": {name: _spread([run.scores[name] for run in own.values()]) for name in (one.scores if one else ())},
    }


def _spread(values: Sequence[float]) -> dict[str, Any]:
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "spread": deviation, "values": list(values)}


def _compare_cost(arm: dict[str, Any], first: Mapping[str, Any]) -> None:
    """Add the ratios of the cost to the first arm's, and `cost_differs`; None and False while one is unknown."""
    cost = arm["cost"]
    known = None not in (cost["macs"], first["macs"])
    names = ("macs", "params")
    for name in names:
        cost[f"relative_{name}"] = cost[name] / first[name] if known else None
    arm["cost_differs"] = known and any(abs(cost[n] - first[n]) > COST_TOLERANCE * first[n] for n in names)


def _check_classes(runs: Finished) -> None:
    if len({run.class_names for run in runs.values()}) > 1:
        raise UserError("the classes differ between the runs: the data has changed, or --classes differs between arms")


def _differences(plan: ComparisonPlan, runs: Finished) -> list[dict[str, Any]]:
    first, result = plan.arms[0].name, []
    for arm in plan.arms[1:]:
        pairs = [(ArmRun(arm.name, seed), ArmRun(first, seed)) for seed in plan.seeds]
        pairs = [pair for pair in pairs if all(run in runs for run in pair)]
        if pairs:
            images, difference = _difference(pairs, runs)
            certain = len(pairs) >= FEWEST_SEEDS
            result.append(
                {
                    "arm": arm.name,
                    "to": first,
                    "score": SCORE,
                    "mean": difference.mean,
                    "half": difference.half if certain else None,
                    "low": difference.mean - difference.half if certain else None,
                    "high": difference.mean + difference.half if certain else None,
                    "p": difference.p if certain else None,
                    "p_holm": None,
                    "seeds": len(pairs),
                    "images": images,
                }
            )
    tested = [row for row in result if row["p"] is not None]
    for row, adjusted in zip(tested, holm([row["p"] for row in tested]), strict=True):
        row["p_holm"] = adjusted
    return result


def _difference(pairs: Sequence[tuple[ArmRun, ArmRun]], runs: Finished) -> tuple[int, PairedDifference]:
    """Return the number of test images, and the difference of two arms over their common seeds.

    Folders without a test split have other test images for each seed.
    """
    names = np.unique(np.concatenate([runs[one].ids for one, _ in pairs]))
    right, tested = np.zeros((2, len(pairs), len(names)), bool), np.zeros((len(pairs), len(names)), bool)
    for row, pair in enumerate(pairs):
        ids = [runs[run].ids for run in pair]
        if not np.array_equal(*ids):
            raise UserError(
                f"{pair[0].folder} and {pair[1].folder} were tested on different images: the data has changed; give "
                "another --out"
            )
        columns = np.searchsorted(names, ids[0])
        tested[row, columns] = True
        for side, run in enumerate(pair):
            right[side, row, columns] = runs[run].right
    return len(names), paired_difference(*right, tested)
