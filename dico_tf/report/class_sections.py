"""Section of a run's page about its classes: confusion, accuracy or IoU of each class, and confused pairs."""

from typing import Any

import numpy as np

from dico_tf.committee.statistics import wilson
from dico_tf.report.accuracy import branch_names, percent
from dico_tf.report.axis import PlotAxis
from dico_tf.report.chart import ChartRow, rows
from dico_tf.report.markup import Html, TableCell, charts, figure, joined, table
from dico_tf.report.run_files import RunFiles

_FEW = 12  # classes up to which the whole confusion matrix is shown
_WORST, _PAIRS = 10, 15


def classes(run: RunFiles) -> Html:
    """Return the confusion of the ensemble, and the accuracy or IoU of each class; with many classes, the worst."""
    evaluation = run.evaluation
    if not evaluation or "confusion" not in evaluation:
        return Html("")
    counts, names = np.asarray(evaluation["confusion"]), evaluation["class_names"]
    if counts.shape != (len(names), len(names)) or not counts.sum():
        return Html("")
    if run.segmentation:
        return joined(_iou_table(run), confusion(counts, names, "ensemble", segmentation=True))
    return of_counts(counts, names, "ensemble")


def of_counts(counts: np.ndarray, names: list[str], whose: str) -> Html:
    """Return the accuracy of each class and the confusion, from a confusion matrix [C, C] in images.

    `whose` names the network or the committee.
    """
    return joined(_accuracy_chart(counts, names, whose), confusion(counts, names, whose))


def confusion(counts: np.ndarray, names: list[str], whose: str, *, segmentation: bool = False) -> Html:
    """Return the confusion matrix as a table; with many classes, the pairs that are confused most often."""
    return (_matrix if len(names) <= _FEW else _pairs)(counts, names, whose, segmentation)


def _accuracy_chart(counts: np.ndarray, names: list[str], whose: str) -> Html:
    images, right = counts.sum(1), counts.diagonal()
    present = np.flatnonzero(images)
    order = present[np.argsort(right[present] / images[present], kind="stable")]
    order = order[:_WORST] if len(names) > _FEW else present
    values = [
        ChartRow(
            label=str(names[c]),
            value=100 * right[c] / images[c],
            value_text=f"{right[c]} of {images[c]}, {100 * right[c] / images[c]:.0f} %",
            interval=tuple(100 * end for end in wilson(int(right[c]), int(images[c]))),
        )
        for c in order
    ]
    content = rows("classes", "Accuracy of each class", PlotAxis(label="accuracy, %", limits=(0, 100)), values)
    which = f"The {len(order)} classes with the lowest accuracy" if len(names) > _FEW else "Every class"
    reading = f"{which}: right answers of the {whose}, with 95 % intervals. Long intervals: few images."
    return charts(figure(content, reading, title="Accuracy of each class", panel=True))


def _iou_table(run: RunFiles) -> Html:
    evaluation = run.evaluation
    ensemble = evaluation["ensemble"]["iou"]
    order = sorted(range(len(ensemble)), key=lambda c: (ensemble[c] is None, ensemble[c] or 0.0))
    columns = [*(branch["iou"] for branch in evaluation["branches"]), ensemble]
    body = [[evaluation["class_names"][c], *(percent(column[c]) for column in columns)] for c in order]
    caption = "IoU of each class in percent, the lowest first. A dash: neither masks nor answers have the class."
    return table(caption, ["class", *branch_names(run), "ensemble"], body)


def _matrix(counts: np.ndarray, names: list[str], whose: str, segmentation: bool) -> Html:
    totals = counts.sum(1)
    shares = counts / np.maximum(totals, 1)[:, None]
    body: list[list[Any]] = []
    for c, name in enumerate(names):
        cells = [
            TableCell(
                f"{100 * shares[c, d]:.1f}" if segmentation else str(counts[c, d]),
                float(shares[c, d]) if c != d else 0.0,
                "own" if c == d else "",
            )
            for d in range(len(names))
        ]
        body.append([name, *cells, f"{totals[c]:,}"])
    unit = "percent of the pixels of the true class" if segmentation else "images"
    caption = (
        f"Confusion of the {whose} in {unit}: a row for each true class, a column for each answer. Right answers are "
        "underlined; the darker another cell, the larger the share of its row."
    )
    return table(caption, ["true class", *names, "pixels" if segmentation else "images"], body, name="matrix")


def _pairs(counts: np.ndarray, names: list[str], whose: str, segmentation: bool) -> Html:
    wrong = counts - np.diag(counts.diagonal())
    places = np.argsort(-wrong, axis=None, kind="stable")[:_PAIRS]
    totals = counts.sum(1)
    body = []
    for true, answer in zip(*np.unravel_index(places, wrong.shape), strict=True):
        if number := int(wrong[true, answer]):
            body.append([names[true], names[answer], f"{number:,}", f"{100 * number / totals[true]:.1f}"])
    what = "pixels" if segmentation else "images"
    if not body:
        return Html("")
    caption = f"The {len(body)} most frequent confusions of the {whose}, by number of {what}."
    return table(caption, ["true class", "answer", what, "% of the true class"], body, left=2)
