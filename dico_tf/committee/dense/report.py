"""Results of a search over cells, as JSON and as text."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from dico_tf.committee.decision import NEVER, Committee
from dico_tf.committee.dense.cell_pool import Arrangement, CellPool
from dico_tf.committee.dense.grid import Grid
from dico_tf.committee.dense.measured_routing import MeasuredRouting
from dico_tf.committee.search import Point, pareto
from dico_tf.evaluation.segmentation import miou
from dico_tf.evaluation.table import table

OURS = "the committee"


def results(
    best: Point,
    reference: Point,
    calibration: CellPool,
    test: CellPool,
    curves: Mapping[Arrangement, list[Point]],
    routing: MeasuredRouting,
) -> dict[str, Any]:
    """Return the results as JSON: rows for the committee, each member and the ensemble; curves; measured routing.

    Args:
        curves: settings of each combination and grid; the JSON has one curve for each cell size.
        routing: of the committee on the test images.
    """
    points = {OURS: best, **{name: calibration.point(calibration.template([name])) for name in calibration.members}}
    points["ensemble"] = calibration.point(calibration.template(calibration.everyone()))
    against, _ = test.decided(reference.committee, reference.grid)
    return {
        "task": "segmentation",
        "reference": list(reference.committee.members),
        "rows": [_row(name, point, test, against) for name, point in points.items()],
        "curves": _curves(curves, test),
        "images": {"calibration": calibration.images, "test": test.images},
        "mean_cost_of_members": float(np.mean([test.costs[name] for name in test.members])),
        "at_work": {
            "miou": miou(routing.counts.sum(0)),
            "less_reference": list(interval_of_difference(routing.counts, against)),
            "seen": routing.seen.tolist(),
            "cost_of_timed": float(routing.seen @ np.asarray(test.costs_of(best.committee.members))),
            "milliseconds": routing.milliseconds,
            "predicted_milliseconds": routing.predicted,
            "milliseconds_of_members": routing.alone,
        },
    }


def _row(name: str, point: Point, test: CellPool, against: np.ndarray) -> dict[str, Any]:
    counts, cost = test.decided(point.committee, point.grid)
    return {
        "name": name,
        "members": list(point.committee.members),
        "gates": ["never" if gate == NEVER else gate for gate in point.committee.gates],
        "cell": point.grid.cell,
        "calibration": {"miou": point.quality, "cost": point.cost},
        "test": {"miou": miou(counts.sum(0)), "cost": cost},
        "less_reference": list(interval_of_difference(counts, against)),
    }


def _curves(curves: Mapping[Arrangement, list[Point]], test: CellPool) -> list[dict[str, Any]]:
    """Return, for each cell size, cost and mIoU of the calibration front, and of the same committees on test images."""
    by_cell = []
    for cell in sorted({grid.cell for _, grid in curves}):
        points = pareto([point for (_, grid), curve in curves.items() if grid.cell == cell for point in curve])
        tested = [test.decided(point.committee, point.grid) for point in points]
        by_cell.append(
            {
                "cell": cell,
                "calibration": [[point.cost, point.quality] for point in points],
                "test": [[cost, miou(counts.sum(0))] for counts, cost in tested],
            }
        )
    return by_cell


def interval_of_difference(one: np.ndarray, other: np.ndarray, seed: int = 0, times: int = 1000) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of mIoU(one) - mIoU(other), from confusions [N, C, C] of the same N images.

    `times` is the number of resamples of the images.
    """
    images, classes = one.shape[:2]
    draws = np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), times)
    values = []
    for each in (one, other):
        tables = np.rint(draws @ each.reshape(images, -1)).astype(np.int64).reshape(-1, classes, classes)
        values.append([miou(table) or 0.0 for table in tables])
    low, high = np.quantile(np.subtract(*values), (0.025, 0.975))
    return float(low), float(high)


def text(committee: Committee, grid: Grid, results: Mapping[str, Any]) -> str:
    """Return the committee's gates, a table of its `results`, and the measured routing, as text."""
    rows = [
        [
            row["name"],
            *(f"{100 * row[split]['miou']:.2f}" for split in ("calibration", "test")),
            "{:+.2f} to {:+.2f}".format(*(100 * bound for bound in row["less_reference"])),
            *(f"{row[split]['cost'] / 1e6:.1f}" for split in ("calibration", "test")),
        ]
        for row in results["rows"]
    ]
    heads = ["", "mIoU, calibration", "mIoU, test", "less reference, 95 %", "M multiply-adds, calibration", "test"]
    routing, ours = results["at_work"], results["rows"][0]
    cell = f"cells of {grid.cell} pixels" if grid.cell else "whole images"
    steps = "".join(
        f" -> {gate if gate == 'never' else format(gate, '.4f')} -> {name}"
        for gate, name in zip(ours["gates"], ours["members"][1:], strict=True)
    )
    shares = ", ".join(
        f"{name} {100 * share:.1f} %" for name, share in zip(ours["members"], routing["seen"], strict=True)
    )
    return "\n".join(
        [
            f"{ours['members'][0]}{steps}; {cell}, context {grid.context}; {committee.confidence}",
            "",
            table(heads, rows, range(1, 6)),
            "",
            f"routed over the test images, with windows cut out: mIoU {100 * routing['miou']:.2f} "
            "(less the reference {:+.2f} to {:+.2f}, 95 %)".format(*(100 * each for each in routing["less_reference"])),
            f"pixels seen: {shares}",
            f"{routing['milliseconds']:.1f} ms an image, {routing['predicted_milliseconds']:.1f} ms predicted from "
            f"these shares; members alone {', '.join(f'{ms:.1f}' for ms in routing['milliseconds_of_members'])} ms",
        ]
    )
