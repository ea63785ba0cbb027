"""Accuracy of a run's ensemble by the number of branches that do not answer, from its test predictions.

python -m benchmarks.members_lost --workdir=W [--svg=FILE]
Each possible set of remaining branches is averaged as the gateway averages the members that answer. Prints the mean,
worst and best accuracy of the sets.
"""

import dataclasses
import itertools
import statistics
from pathlib import Path

import numpy as np

from dico_tf import flags
from dico_tf.config import option
from dico_tf.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measurement:
    workdir: str = option("", "folder of a trained run that has predictions.npz")
    svg: str = option("", "file to draw the curve into; empty = no drawing")


SCRIPT = flags.Script(name="-m benchmarks.members_lost", about=__doc__, fields=flags.of(Measurement))


def curve(logits: np.ndarray, labels: np.ndarray, average: str) -> list[tuple[int, list[float]]]:
    """Return (branches lost, accuracies of every possible set of remaining branches) for logits [N, S, C]."""
    from dico_tf.evaluation.averaging import combine

    branches = logits.shape[1]
    points = []
    for lost in range(branches):
        remaining = itertools.combinations(range(branches), branches - lost)
        right = [(combine(logits[:, list(subset)], average).argmax(1) == labels).mean() for subset in remaining]
        points.append((lost, [float(share) for share in right]))
    return points


def draw(points: list[tuple[int, list[float]]], path: Path) -> None:
    """Write the curve as an SVG: the mean as a line, from the worst set to the best as a band."""
    import matplotlib
    from matplotlib.figure import Figure

    lost = [n for n, _ in points]
    worst, mean, best = ([100 * of(shares) for _, shares in points] for of in (min, statistics.mean, max))
    figure = Figure(figsize=(5, 3), layout="constrained")
    axes = figure.add_subplot()
    axes.fill_between(lost, worst, best, color="tab:blue", alpha=0.2, label="worst to best set of branches")
    axes.plot(lost, mean, "o-", color="tab:blue", label="mean")
    for n, share in zip(lost, mean, strict=True):
        axes.annotate(f"{share:.1f}", (n, share), textcoords="offset points", xytext=(0, 6), ha="center")
    axes.set(xlabel="branches lost", ylabel="test accuracy, %", xticks=lost)
    axes.legend(loc="lower left")
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": path.name}):  # the same file every time
        figure.savefig(path, format="svg", metadata={"Date": None})


def main(arguments: list[str]) -> None:
    values, _ = flags.parse(SCRIPT, arguments)
    settings = Measurement(**values)
    if not settings.workdir:
        raise UserError("--workdir is missing; give the folder of a trained run")
    from benchmarks.measure import emit
    from dico_tf.files.json_files import read_of_run
    from dico_tf.files.tables import read_predictions

    predictions = read_predictions(Path(settings.workdir) / "predictions.npz")
    config = read_of_run(Path(settings.workdir) / "config.json")["config"]
    points = curve(predictions.logits, predictions.labels, config["average"])
    for lost, shares in points:
        about = {"lost": lost, "sets": len(shares), "worst": round(min(shares), 4), "best": round(max(shares), 4)}
        emit(
            "members_lost", statistics.mean(shares), "test accuracy", model=config["model"], splits=len(points), **about
        )
    if settings.svg:
        draw(points, Path(settings.svg))


if __name__ == "__main__":
    flags.run(main)
