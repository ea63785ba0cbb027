"""Sections of a run's page about its accuracy: against cost, reliability, and disagreement."""

import itertools
from typing import Any, NamedTuple

import numpy as np

from dico_tf.committee.statistics import wilson
from dico_tf.evaluation.averaging import combine, softmax
from dico_tf.evaluation.cost import branch_costs
from dico_tf.report.axis import PERCENT, PlotAxis, short
from dico_tf.report.chart import PlotSeries, plot
from dico_tf.report.markup import Html, TableCell, charts, figure, table
from dico_tf.report.run_files import RunFiles

BINS = 10
_MOST_CURVES = 4  # branches in the reliability diagram; with more, only the ensemble


class RunCosts(NamedTuple):
    """{"params", "macs"} of each branch, of all together, and of the whole network, unless it is the only branch.

    None = unknown.
    """

    branches: list[dict[str, float | None]]
    total: dict[str, float | None]
    whole: dict[str, float | None] | None


def percent(share: float | None) -> str | None:
    """Return a share as percent with two decimals."""
    return None if share is None else f"{100 * share:.2f}"


def image_count(evaluation: dict[str, Any]) -> int:
    """Return the number of images of an evaluation."""
    return evaluation.get("images") or int(np.sum(evaluation["confusion"]))


def interval(evaluation: dict[str, Any], share: float) -> tuple[float, float]:
    """Return Wilson's 95 % interval of an accuracy on the images of an evaluation."""
    images = image_count(evaluation)
    return wilson(round(share * images), images)


def branch_names(run: RunFiles) -> list[str]:
    """Return a name for each branch, with that of its network if it was trained by --branches."""
    count = len(run.evaluation["branches"]) if run.evaluation else (run.summary or {}).get("splits", 0)
    costs = branch_costs(run.summary) if run.summary else []
    extra = [cost.get("name") for cost in costs] if len(costs) == count else [None] * count
    return [f"branch_{s} ({name})" if name else f"branch_{s}" for s, name in enumerate(extra)]


def costs(run: RunFiles) -> RunCosts:
    """Return the costs of a run's networks, on images as they were evaluated."""
    evaluation, summary = run.evaluation, run.summary
    count = len(evaluation["branches"])
    unknown = {"params": None, "macs": None}
    if not summary or summary.get("splits") != count:
        return RunCosts([unknown] * count, unknown, None)
    branches = [{name: cost[name] for name in unknown} for cost in branch_costs(summary)]
    whole = {name: summary[name].get("whole") for name in unknown}
    whole = None if whole["params"] is None or count == 1 else whole
    total = {name: summary[name]["branches"] for name in unknown}
    if run.segmentation and "macs" in evaluation:  # of a frame
        branches = [{**cost, "macs": evaluation["macs"]["branch"]} for cost in branches]
        total["macs"] = count * evaluation["macs"]["branch"]
        whole = whole and {**whole, "macs": evaluation["macs"]["whole"]}
    if "views" in evaluation:  # clips and crops that are averaged
        total["macs"] = evaluation["views"]["macs"]
        branches = [{**cost, "macs": total["macs"] // count} for cost in branches]
        times = evaluation["views"]["clips"] * evaluation["views"]["crops"]
        same = whole and total["macs"] == summary["macs"]["branches"] * times
        whole = {**whole, "macs": whole["macs"] * times} if same else whole and {**whole, "macs": None}
    return RunCosts(branches, total, whole)


def against_cost(run: RunFiles) -> Html:
    """Return a chart of score against multiply-adds: branches, ensemble, and committees of the run."""
    evaluation = run.evaluation
    if not evaluation:
        return Html("")
    price = costs(run)
    points = len(price.branches) + len(run.committees)
    if points < 2 or any(cost["macs"] is None for cost in price.branches):
        return Html("")
    score = "miou" if run.segmentation else "top1"
    series = [
        _points("branches", evaluation, [cost["macs"] for cost in price.branches], evaluation["branches"], score),
        _points("ensemble", evaluation, [price.total["macs"]], [evaluation["ensemble"]], score),
    ]
    series += [_committee(name, content.results["rows"][0]) for name, content in run.committees.items()]
    whole = price.whole and price.whole["macs"]
    word = "mIoU" if run.segmentation else "accuracy"
    content = plot(
        "cost",
        f"{word} against multiply-adds",
        PlotAxis(label="multiply-adds of an image", log=True),
        PlotAxis(label=f"{word}, {evaluation['split']}, %", bounds=PERCENT),
        series,
        verticals=[whole] if whole else [],
    )
    reading = "Up and to the left is better: more accurate for less."
    if not run.segmentation:
        reading += " Vertical bars are 95 % intervals; marks of about the same cost stand side by side."
    if whole:
        reading += (
            " The dashed vertical line is the cost of the whole, undivided network, which this run did not train."
        )
    return charts(figure(content, reading, panel=True))


def _committee(file: str, row: dict[str, Any]) -> PlotSeries:
    """Return the point of a committee on the test images.

    Args:
        file: that describes it.
        row: its results.
    """
    name, values = f"{row['kind']} of {file}", row["test"]
    low, high = values["interval"]
    return PlotSeries(
        name=name,
        x=[values["cost"]],
        y=[100 * values["accuracy"]],
        intervals=[(100 * low, 100 * high)],
        line=False,
        notes=[f"{name}: {percent(values['accuracy'])} %, {short(values['cost'])}"],
    )


def _points(
    name: str, evaluation: dict[str, Any], macs: list[float], scores: list[dict[str, Any]], score: str
) -> PlotSeries:
    values = [each[score] for each in scores]
    ends = [interval(evaluation, value) for value in values] if score == "top1" else []
    notes = [f"{name}: {percent(value)} %, {short(cost)}" for value, cost in zip(values, macs, strict=True)]
    return PlotSeries(
        name=name,
        x=macs,
        y=[float("nan") if value is None else 100 * value for value in values],
        intervals=[(100 * low, 100 * high) for low, high in ends],
        line=False,
        notes=notes,
    )


def binned(logits: np.ndarray, labels: np.ndarray, bins: int = BINS) -> list[tuple[float, float, int]]:
    """Return (mean confidence, accuracy, images) of each bin of equal width that has images.

    The confidence of an image is its largest probability.

    Args:
        logits: [N, C].
        labels: [N].
    """
    sure, right = np.empty(len(logits)), logits.argmax(1) == labels
    for start in range(0, len(logits), 4096):  # a float64 copy of all could take gigabytes
        sure[start : start + 4096] = softmax(logits[start : start + 4096]).max(1)
    places = np.minimum((sure * bins).astype(int), bins - 1)
    return [
        (float(sure[places == place].mean()), float(right[places == place].mean()), int((places == place).sum()))
        for place in np.unique(places)
    ]


def reliability_chart(name: str, answers: dict[str, np.ndarray], labels: np.ndarray) -> Html:
    """Return a reliability diagram with a line for each of the logits [N, C] by name."""
    series = []
    for label, logits in answers.items():
        points = binned(logits, labels)
        notes = [
            f"{label}: confidence {100 * sure:.1f} %, right {100 * right:.1f} %, {count} images"
            for sure, right, count in points
        ]
        x, y = [100 * sure for sure, _, _ in points], [100 * right for _, right, _ in points]
        series.append(PlotSeries(name=label, x=x, y=y, notes=notes))
    axis = {"limits": (0, 100)}
    content = plot(
        name, "Reliability diagram", PlotAxis(label="confidence (largest probability), %", **axis),
        PlotAxis(label="right answers, %", **axis), series, guides=[((0, 0), (100, 100))],
    )  # fmt: skip
    reading = (
        "Images are grouped by confidence. On the dashed diagonal, answers are right as often as their probability "
        "says; below it the network is too sure, above it too careful."
    )
    return figure(content, reading, title="Reliability", panel=True)


def confidence_chart(name: str, answers: dict[str, np.ndarray], labels: np.ndarray) -> Html:
    """Return a chart of the share of images in each range of confidence."""
    series = []
    for label, logits in answers.items():
        x, y = [], []
        counts = {int(min(sure * BINS, BINS - 1)): count for sure, _, count in binned(logits, labels)}
        for place in range(BINS):
            share = 100 * counts.get(place, 0) / len(labels)
            x += [100 * place / BINS, 100 * (place + 1) / BINS]
            y += [share, share]
        series.append(PlotSeries(name=label, x=x, y=y, marks=False))
    content = plot(
        name, "Images by confidence", PlotAxis(label="confidence (largest probability), %", limits=(0, 100)),
        PlotAxis(label="images, %", limits=(0, 100)), series,
    )  # fmt: skip
    reading = "Share of the images in each range of confidence. Points of the other chart with few images mean little."
    return figure(content, reading, title="Confidence", panel=True)


def reliability(run: RunFiles) -> Html:
    """Return the reliability diagram of the ensemble and, if they are few, of the branches."""
    if run.predictions is None:
        return Html("")
    logits, labels, _ = run.predictions
    answers = {"ensemble": combine(logits, run.evaluation["average"])}
    if 1 < logits.shape[1] <= _MOST_CURVES:
        answers |= {name: logits[:, s] for s, name in enumerate(branch_names(run))}
    return charts(
        reliability_chart("reliability", answers, labels),
        confidence_chart("confidence", {"ensemble": answers["ensemble"]}, labels),
    )


def disagreement(run: RunFiles) -> Html:
    """Return a table of the share of images that each pair of branches classifies differently."""
    if run.predictions is None:
        return Html("")
    return disagreement_matrix(run.predictions.logits.argmax(2), branch_names(run), run.evaluation["split"])


def disagreement_matrix(answers: np.ndarray, names: list[str], split: str) -> Html:
    """Return a table of the share of images that each pair of networks classifies differently.

    Args:
        answers: classes [N, S] of S networks.
        names: S names.
        split: name of the images.
    """
    count = answers.shape[1]
    if count < 2 or not len(answers):
        return Html("")
    shares = np.zeros((count, count))
    for a, b in itertools.combinations(range(count), 2):
        shares[a, b] = shares[b, a] = (answers[:, a] != answers[:, b]).mean()
    most = shares.max() or 1.0
    rows = [
        [name, *(None if a == b else TableCell(percent(shares[a, b]), shares[a, b] / most) for b in range(count))]
        for a, name in enumerate(names)
    ]
    caption = (
        f"Share of the {split} images that two networks classify differently, in percent. Averaging gains only where "
        "networks differ; one that differs much more from all others is often the weakest."
    )
    return table(caption, ["", *names], rows, name="matrix")
