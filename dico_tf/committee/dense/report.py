"""What a search for scenes found, as numbers, as text and as a figure."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dico_tf.committee.decision import NEVER, Committee
from dico_tf.committee.dense.grid import Grid
from dico_tf.committee.dense.search import Place, Point, Pool, front, interval_of_difference
from dico_tf.committee.dense.work import Worked
from dico_tf.committee.figures import written
from dico_tf.evaluation.segmentation import miou
from dico_tf.evaluation.table import table

OURS = "the committee"


def results(
    best: Point, aim: Point, calibration: Pool, test: Pool, curves: Mapping[Place, list[Point]], worked: Worked
) -> dict[str, Any]:
    """A row for the committee, each member and the ensemble; a curve for each cell size; what really happened."""
    points = {OURS: best, **{name: calibration.single(name) for name in calibration.names}}
    points["ensemble"] = calibration.together(calibration.orders[-1])
    against, _ = test.decided(aim.committee, aim.grid)
    own = float(np.mean([test.costs[name] for name in test.names]))
    shares = worked.seen @ np.asarray(test.prices(best.committee.members))
    return {
        "task": "segmentation",
        "reference": list(aim.committee.members),
        "rows": [_row(name, point, test, against) for name, point in points.items()],
        "curves": _curves(curves, test),
        "images": {"calibration": calibration.images, "test": test.images},
        "mean_cost_of_members": own,
        "at_work": {
            "miou": miou(worked.counts.sum(0)),
            "less_reference": list(interval_of_difference(worked.counts, against)),
            "seen": worked.seen.tolist(),
            "cost_of_timed": float(shares),
            "milliseconds": worked.milliseconds,
            "predicted_milliseconds": worked.predicted,
            "milliseconds_of_members": worked.alone,
        },
    }


def _row(name: str, point: Point, test: Pool, against: np.ndarray) -> dict[str, Any]:
    counts, cost = test.decided(point.committee, point.grid)
    return {
        "name": name,
        "members": list(point.committee.members),
        "gates": ["never" if gate == NEVER else gate for gate in point.committee.gates],
        "cell": point.grid.cell,
        "calibration": {"miou": point.miou, "cost": point.cost},
        "test": {"miou": miou(counts.sum(0)), "cost": cost},
        "less_reference": list(interval_of_difference(counts, against)),
    }


def _curves(found: Mapping[Place, list[Point]], test: Pool) -> list[dict[str, Any]]:
    """Gates found on calibration images, judged by test images."""
    cells = sorted({grid.cell for _, grid in found})
    curves = []
    for cell in cells:
        points = front([point for (_, grid), curve in found.items() if grid.cell == cell for point in curve])
        judged = [test.decided(point.committee, point.grid) for point in points]
        curves.append({
            "cell": cell,
            "calibration": [[point.cost, point.miou] for point in points],
            "test": [[cost, miou(counts.sum(0))] for counts, cost in judged],
        })  # fmt: skip
    return curves


def text(committee: Committee, grid: Grid, found: Mapping[str, Any]) -> str:
    rows = [
        [
            row["name"],
            *(f"{100 * row[split]['miou']:.2f}" for split in ("calibration", "test")),
            "{:+.2f} to {:+.2f}".format(*(100 * bound for bound in row["less_reference"])),
            *(f"{row[split]['cost'] / 1e6:.1f}" for split in ("calibration", "test")),
        ]
        for row in found["rows"]
    ]
    heads = ["", "mIoU, calibration", "mIoU, test", "less reference, 95 %", "M multiply-adds, calibration", "test"]
    worked, ours = found["at_work"], found["rows"][0]
    cell = f"cells of {grid.cell} pixels" if grid.cell else "whole images"
    steps = "".join(f" -> {gate if gate == 'never' else format(gate, '.4f')} -> {name}"
                    for gate, name in zip(ours["gates"], ours["members"][1:], strict=True))  # fmt: skip
    shares = ", ".join(
        f"{name} {100 * share:.1f} %" for name, share in zip(ours["members"], worked["seen"], strict=True)
    )
    return "\n".join([
        f"{ours['members'][0]}{steps}; {cell}, context {grid.context}; {committee.confidence}",
        "",
        table(heads, rows, range(1, 6)),
        "",
        f"at work on the test images, where windows end: mIoU {100 * worked['miou']:.2f} "
        "({:+.2f} to {:+.2f} of the reference)".format(*(100 * bound for bound in worked["less_reference"])),
        f"pixels shown: {shares}; {worked['milliseconds']:.1f} ms an image, {worked['predicted_milliseconds']:.1f} by "
        f"these shares, members alone {', '.join(f'{ms:.1f}' for ms in worked['milliseconds_of_members'])} ms",
    ])  # fmt: skip


def draw(folder: Path, found: Mapping[str, Any]) -> str:
    """mIoU against cost, test images: a line for each cell size, a dot for each member and the ensemble."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for curve in found["curves"]:
        cost, value = np.array(curve["test"]).T
        axes.plot(cost / 1e6, 100 * value, ".-", label=f"cells of {curve['cell']}" if curve["cell"] else "whole images")
    for row in found["rows"][1:]:
        axes.plot(row["test"]["cost"] / 1e6, 100 * row["test"]["miou"], "s", color="tab:gray")
        axes.annotate(row["name"], (row["test"]["cost"] / 1e6, 100 * row["test"]["miou"]), xytext=(4, -10),
                      textcoords="offset points")  # fmt: skip
    ours = found["rows"][0]["test"]
    axes.plot(ours["cost"] / 1e6, 100 * ours["miou"], "*", color="tab:red", markersize=14, label="chosen")
    axes.set(xlabel="average million multiply-adds an image", ylabel="mIoU, %, test images")
    axes.legend()
    axes.grid(alpha=0.3)
    return written(figure, folder / "miou_against_cost.png")
