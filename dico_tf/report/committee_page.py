"""report.html of a committee search: results, accuracy against cost, exits, calibration, classes and command."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dico_tf.committee import fitting
from dico_tf.committee.decision import NEVER, Committee, Decision, are_right, decide, ensemble
from dico_tf.committee.pool import Pool
from dico_tf.committee.report import OURS, gates
from dico_tf.committee.scoring import CommitteeScores, scores_of
from dico_tf.committee.search_unit import Report
from dico_tf.evaluation.metrics import confusion
from dico_tf.report import accuracy, class_sections
from dico_tf.report.axis import PERCENT, PlotAxis, short
from dico_tf.report.chart import ChartRow, PlotSeries, plot, rows
from dico_tf.report.markup import Html, Section, charts, commands, element, figure, joined, page, table
from dico_tf.report.written import written

_UNITS = {"macs": "multiply-adds", "params": "parameters", "milliseconds": "milliseconds"}
_STEPS = 40  # bars of a histogram


def write_page(report: Report, folder: Path, command: str, figures: bool) -> str:
    """Write report.html into a folder, and return a line with its path, or with the reason why there is none.

    Args:
        command: the search as it was typed.
        figures: draw figures, which takes a few seconds with many images.
    """
    return written(folder, lambda: committee_page(report, command, figures))


def committee_page(report: Report, command: str, figures: bool = True) -> str:
    """Return the page of a finished search; its arguments are those of `write_page`."""
    dense = report.content.results.get("task") == "segmentation"
    results = _dense_results(report) if dense else _results(report)
    drawn = [Section("mIoU against cost", _dense_chart(report.content.results))] if dense else _image_sections(report)
    sections = [Section("Results", results), *(drawn if figures else []), Section("Command", _command(report, command))]
    about = report.content.calibration
    lead = f"Gates were fitted to {about.images:,} images ({about.name or 'a table of logits'}) and tested on others."
    return page(report.title, lead, sections)


def _results(report: Report) -> Html:
    results, committee = report.content.results, report.content.committee
    measure = _UNITS[results["measure"]]
    splits = [split for split in ("calibration", "test") if split in results["rows"][0]]
    body = []
    for row in results["rows"]:
        last = row[splits[-1]]
        difference, other = last["committee_less_this"], row["name"] != OURS
        low, high = (100 * end for end in last["interval"])
        body.append(
            [
                row["name"],
                *(accuracy.percent(row[split]["accuracy"]) for split in splits),
                f"{low:.1f} to {high:.1f}",
                _cost(last["cost"]),
                _cost(last["worst"]),
                f"{100 * difference['difference']:+.2f}" if other else None,
                f"{difference['mcnemar_p']:.3f}" if other else None,
            ]
        )
    heads = ["", *(f"{split} accuracy %" for split in splits), "95 % interval", f"average {measure}", "worst case"]
    caption = (
        f"Accuracy and cost of an image. All columns but that of the calibration images are about {splits[-1]} images. "
        "Difference: the committee's accuracy less this row's, in points; p: McNemar's exact test."
    )
    best = results.get("best_single_no_dearer")
    lines = [f"The best single member at no higher cost: {best}." if best else "No single member is as cheap."]
    if "gap" in results:
        low, high = (100 * end for end in results["gap"]["interval"])
        lines.append(
            f"Calibration less test accuracy: {100 * results['gap']['accuracy']:+.2f} points (95 %: {low:+.2f} to "
            f"{high:+.2f}). Far above 0, the gates fit the calibration images too closely."
        )
    lines += [line for text in report.texts[1:] for line in text.split("\n")]
    return joined(
        element("p", element("strong", gates(committee))),
        table(caption, [*heads, "difference", "p"], body),
        *(element("p", line) for line in lines),
    )


def _cost(value: float | None) -> str | None:
    return None if value is None or np.isnan(value) else (f"{value:,.0f}" if value >= 1000 else f"{value:,.2f}")


def _image_sections(report: Report) -> list[Section]:
    pool, committee, measure = report.test, report.content.committee, report.content.results["measure"]
    if pool is None:
        return []
    decision = decide(committee, pool.stacked(committee.members))
    finite = ~decision.lost
    names = [str(name) for name in report.content.class_names or range(pool.classes)]
    stacked = pool.stacked(pool.members)
    answers = stacked.argmax(2)[np.isfinite(stacked).all((1, 2))]
    counts = confusion(decision.logits[finite], pool.labels[finite]) if finite.any() else None
    return [
        Section("Accuracy against cost", _against_cost(committee, report.front, pool, measure)),
        Section("Exits", charts(_confidences(committee, decision, pool), _exits(committee, decision))),
        Section("Reliability", _reliability(decision, pool)),
        Section("Disagreement of the members", accuracy.disagreement_matrix(answers, list(pool.members), "test")),
        Section("Classes", Html("") if counts is None else class_sections.of_counts(counts, names, "committee")),
    ]


def _against_cost(committee: Committee, front: Sequence[Any], pool: Pool, measure: str) -> Html:
    by_cost = sorted(pool.members, key=lambda member: pool.cost(member, measure))
    how = {"average": committee.average, "confidence": committee.confidence}
    groups = {
        "committees of the search": [point.committee for point in front],
        "single members": [Committee(members=(member,), **how) for member in by_cost],
        "ensembles of the cheapest": [ensemble(*by_cost[:n], **how) for n in range(2, len(by_cost) + 1)],
        "chosen committee": [committee],
    }
    series = []
    for name, group in groups.items():
        scores = sorted((scores_of(each, pool, measure) for each in group), key=lambda score: score.cost)
        if scores:
            series.append(_series(name, scores, line=name.startswith("committees"), bars=name.startswith("chosen")))
    content = plot(
        "cost",
        "Accuracy against average cost",
        PlotAxis(label=f"average {_UNITS[measure]} of an image", log=True),
        PlotAxis(label="accuracy, test, %", bounds=PERCENT),
        series,
    )
    reading = (
        "Up and to the left is better. The line joins the committees that were best for their cost on the calibration "
        "images, measured here on the test images; the bar is the chosen committee's 95 % interval."
    )
    return charts(figure(content, reading, panel=True)) if content else content


def _series(name: str, scores: Sequence[CommitteeScores], *, line: bool, bars: bool) -> PlotSeries:
    notes = [
        f"{' + '.join(each.committee.members)}: {100 * each.accuracy:.2f} %, {short(each.cost)}" for each in scores
    ]
    intervals = [tuple(100 * end for end in each.interval) for each in scores] if bars else []
    x, y = [each.cost for each in scores], [100 * each.accuracy for each in scores]
    return PlotSeries(name=name, x=x, y=y, intervals=intervals, line=line, notes=notes)


def _confidences(committee: Committee, decision: Decision, pool: Pool) -> Html:
    """Return a histogram of the first member's confidences, for its right and its wrong answers, with its gate."""
    if len(committee.members) < 2:
        return Html("")
    first = decision.confidence[:, 0].astype(np.float64)
    right, finite = are_right(pool.logits[committee.members[0]], pool.labels), np.isfinite(first)
    if not finite.any():
        return Html("")
    edges = np.linspace(first[finite].min(), first[finite].max() + 1e-9, _STEPS + 1)
    series = []
    for name, which in (("right", right), ("wrong", ~right)):
        counts, _ = np.histogram(first[finite & which], edges)
        x, y = np.repeat(edges, 2)[1:-1], np.repeat(counts, 2)
        series.append(PlotSeries(name=f"{name} answers", x=x.tolist(), y=y.tolist(), marks=False))
    gate = committee.gates[0]
    content = plot(
        "confidences",
        f"Confidences of {committee.members[0]}",
        PlotAxis(label=f"{committee.confidence} of {committee.members[0]}"),
        PlotAxis(label="images", bounds=(0.0, math.inf)),
        series,
        verticals=[gate] if np.isfinite(gate) else [],
    )
    reading = "How sure the first member is where it is right and where it is wrong. "
    reading += (
        "No image stops at it: its gate is never passed."
        if gate == NEVER
        else "Images to the right of the dashed line, its gate, stop there: few of the wrong answers should."
    )
    return figure(content, reading, title="Confidence of the first member", panel=True)


def _exits(committee: Committee, decision: Decision) -> Html:
    shares = 100 * np.bincount(decision.stage, minlength=len(committee.members)) / max(len(decision.stage), 1)
    values = [
        ChartRow(label=name, value=float(share), value_text=f"{share:.1f} %")
        for name, share in zip(committee.members, shares, strict=True)
    ]
    axis = PlotAxis(label="images that stop at this member, %", limits=(0, 100))
    content = rows("exits", "Where images stop", axis, values, bars=True)
    reading = "Members in the order they run. The larger the share of the first, the cheaper the committee."
    return figure(content, reading, title="Where images stop", panel=True)


def _reliability(decision: Decision, pool: Pool) -> Html:
    """Return reliability diagrams of the committee's logits as they are, and divided by a temperature.

    The temperature is fitted to these very images.
    """
    finite = ~decision.lost
    if not finite.any():
        return Html("")
    logits, labels = decision.logits[finite], pool.labels[finite]
    temperature = fitting.temperature(logits, labels)
    answers = {"as it is": logits, f"with temperature {temperature:.2f}, fitted here": logits / temperature}
    return charts(
        accuracy.reliability_chart("reliability", answers, labels),
        accuracy.confidence_chart("confidence", answers, labels),
    )


def _dense_results(report: Report) -> Html:
    results = report.content.results
    body = [
        [
            row["name"],
            *(accuracy.percent(row[split]["miou"]) for split in ("calibration", "test")),
            "{:+.2f} to {:+.2f}".format(*(100 * end for end in row["less_reference"])),
            *(_cost(row[split]["cost"]) for split in ("calibration", "test")),
        ]
        for row in results["rows"]
    ]
    heads = ["", "mIoU %, calibration", "mIoU %, test", "less reference", "multiply-adds, calibration", "test"]
    caption = (
        f"mIoU and average multiply-adds of an image. Less reference: 95 % interval of the test mIoU less that of "
        f"{', '.join(results['reference'])}, in points."
    )
    return joined(table(caption, heads, body), element("pre", element("code", "\n\n".join(report.texts)), tabindex="0"))


def _dense_chart(results: Mapping[str, Any]) -> Html:
    """Return a chart of mIoU against cost on test images: cell sizes, members, the ensemble and the committee."""
    series = []
    for curve in results["curves"]:
        name = f"cells of {curve['cell']} pixels" if curve["cell"] else "whole images"
        cost, value = zip(*curve["test"], strict=True)
        series.append(PlotSeries(name=name, x=list(cost), y=_hundreds(value)))
    ours, *others = results["rows"]
    for row, name in (*((row, row["name"]) for row in others), (ours, "chosen committee")):
        values = row["test"]
        series.append(PlotSeries(name=name, x=[values["cost"]], y=_hundreds([values["miou"]]), line=False))
    content = plot(
        "cost",
        "mIoU against average cost",
        PlotAxis(label="average multiply-adds of an image", log=True),
        PlotAxis(label="mIoU, test, %", bounds=PERCENT),
        series,
    )
    reading = "Up and to the left is better. A line joins the cascades of one cell size with different gates."
    return charts(figure(content, reading, panel=True)) if content else content


def _hundreds(values: Sequence[float | None]) -> list[float]:
    return [float("nan") if value is None else 100 * value for value in values]


def _command(report: Report, command: str) -> Html:
    about = report.content.calibration
    facts = element("p", f"Calibration images: {about.name or 'table of logits'}, fingerprint {about.fingerprint}.")
    return joined(commands([command], dict(report.content.made_by)), facts)
