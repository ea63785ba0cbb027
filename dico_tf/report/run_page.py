"""report.html of a run: scores and cost, learning curves, calibration, classes, images, commands and versions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dico_tf.evaluation.metrics import SCORES
from dico_tf.report import accuracy, class_sections, gallery_sections
from dico_tf.report.accuracy import branch_names, percent
from dico_tf.report.axis import PERCENT, PlotAxis
from dico_tf.report.chart import PlotSeries, plot
from dico_tf.report.markup import Html, Section, charts, commands, element, figure, joined, page, table
from dico_tf.report.run_files import RunFiles
from dico_tf.report.written import written


def write_page(folder: str | Path) -> str:
    """Write report.html into a run's folder, and return a line with its path, or with the reason why there is none."""
    return written(Path(folder), lambda: run_page(Path(folder)))


def run_page(folder: Path) -> str:
    """Return the page of a run. Sections whose files are missing or damaged are left out.

    Raises UserError if the folder is not that of a run.
    """
    run = RunFiles(folder)
    config = run.record.get("config", {})
    title = f"{_model(run)} on {config.get('dataset', 'its data')}"
    sections = [
        Section("Summary", _summary(run)),
        Section("Learning curves", _curves(run)),
        Section("Accuracy against cost", accuracy.against_cost(run)),
        Section("Reliability", accuracy.reliability(run)),
        Section("Disagreement of the branches", accuracy.disagreement(run)),
        Section("Classes", class_sections.classes(run)),
        Section("Views of each branch", gallery_sections.views(run)),
        Section("Images that the branches disagree on", gallery_sections.disagreed(run)),
        Section("Surest mistakes", gallery_sections.mistakes(run)),
        Section("Commands and versions", _commands(run)),
    ]
    return page(title, _lead(run), sections)


def _model(run: RunFiles) -> str:
    if run.summary and run.summary.get("model"):
        return str(run.summary["model"])
    return str(run.record.get("config", {}).get("model", "a network"))


def _lead(run: RunFiles) -> str:
    """Return a sentence with the number of branches, the split, and the ensemble's score."""
    evaluation = run.evaluation
    if not evaluation:
        return "This run has not been evaluated yet."
    branches = len(evaluation["branches"])
    what = "1 branch" if branches == 1 else f"{branches} branches"
    score = "mIoU" if run.segmentation else "accuracy"
    value = percent(evaluation["ensemble"]["miou" if run.segmentation else "top1"])
    noun = "clips of videos" if "views" in evaluation else "images"
    count = accuracy.image_count(evaluation)
    return f"A network in {what}. The ensemble's {score} on {count:,} {evaluation['split']} {noun} is {value} %."


def _summary(run: RunFiles) -> Html:
    evaluation = run.evaluation
    if not evaluation:
        return Html("")
    costs = accuracy.costs(run)
    names = [*branch_names(run), f"ensemble ({evaluation['average']})"]
    scores = [*evaluation["branches"], evaluation["ensemble"]]
    rows = [
        [name, *_cost_cells(cost), *_score_cells(evaluation, values)]
        for name, cost, values in zip(names, [*costs.branches, costs.total], scores, strict=True)
    ]
    if costs.whole:
        rows.insert(0, ["whole network (not trained)", *_cost_cells(costs.whole), *[None] * (len(rows[0]) - 3)])
    headers = ["", "parameters", "multiply-adds", *_score_headers(evaluation)]
    caption = (
        f"Cost and scores on the {evaluation['split']} split. The ensemble runs all branches. Lower is better for "
        "cost, NLL, Brier and ECE."
    )
    if run.segmentation:
        caption = f"Cost of one frame, and scores on the {evaluation['split']} split, in percent."
    return joined(table(caption, headers, rows), _other_splits(run), _facts(run))


def _cost_cells(cost: dict[str, float | None]) -> list[str | None]:
    return [None if cost[name] is None else f"{cost[name]:,.0f}" for name in ("params", "macs")]


def _score_headers(evaluation: dict[str, Any]) -> list[str]:
    if evaluation.get("task") == "segmentation":
        return ["mIoU %", "pixels %"]
    names = [name for name in SCORES if name in evaluation["ensemble"]]
    return [SCORES[names[0]].heading, "95 % interval", *(SCORES[name].heading for name in names[1:])]


def _score_cells(evaluation: dict[str, Any], values: dict[str, Any]) -> list[str | None]:
    if evaluation.get("task") == "segmentation":
        return [percent(values[name]) for name in ("miou", "pixel_accuracy")]
    names = [name for name in SCORES if name in evaluation["ensemble"]]
    cells = [percent(values[name]) if SCORES[name].percent else f"{values[name]:.4f}" for name in names]
    low, high = accuracy.interval(evaluation, values["top1"])
    return [cells[0], f"{100 * low:.1f} to {100 * high:.1f}", *cells[1:]]


def _other_splits(run: RunFiles) -> Html:
    others = list(run.evaluations.values())[1:]
    if not others:
        return Html("")
    rows = [
        [each["split"], f"{accuracy.image_count(each):,}", *_score_cells(each, each["ensemble"])] for each in others
    ]
    return table(
        "The ensemble on the other splits that were evaluated.", ["split", "images", *_score_headers(others[0])], rows
    )


def _facts(run: RunFiles) -> Html:
    summary, evaluation = run.summary or {}, run.evaluation
    lines = []
    if summary.get("best_epoch") is not None:
        epoch = f"Best epoch: {summary['best_epoch'] + 1} of {summary.get('epochs')}"
        line = f"{epoch}, chosen on {summary.get('select')} images"
        lines.append(
            f"{line}{' (optimistic: these are the images of the scores)' if summary.get('selected_on_test') else ''}."
        )
    if "seconds" in summary:
        lines.append(f"Training took {summary['seconds']:,.0f} seconds.")
    if evaluation.get("weights") == "ema":
        lines.append("The weights are moving averages (EMA).")
    if len(evaluation["branches"]) > 1:
        what = "pixels" if run.segmentation else "images"
        lines.append(f"The branches disagree on {percent(evaluation['diversity']['disagreement'])} % of the {what}.")
    lines.append("95 % intervals are Wilson's; they cover the chance of the images, not that of another training.")
    if run.segmentation:
        lines.pop()
    return joined(*(element("p", line) for line in lines))


def _curves(run: RunFiles) -> Html:
    """Return charts of accuracy, loss and agreement by epoch."""
    rows = run.epochs
    if not rows:
        return Html("")
    name = next((key for key in ("validation", "test") if any(key in row for row in rows)), "")
    ema = f"{name}_ema"
    name = ema if name and any(ema in row for row in rows) else name
    scored = [row for row in rows if name and isinstance(row.get(name), dict)]
    score = "miou" if any("ensemble_miou" in row.get(name, {}) for row in scored) else "accuracy"
    best = (run.summary or {}).get("best_epoch")
    drawn = [
        _by_branch(run, scored, name, score, best),
        _by_epoch("loss", "Loss", [("training", rows, None), (name, scored, name)], best),
        _by_epoch("agreement", "Agreement loss", [("training", rows, None), (name, scored, name)], best),
    ]
    return charts(*drawn)


def _by_branch(run: RunFiles, rows: list[dict[str, Any]], split: str, score: str, best: int | None) -> Html:
    """Return a chart of each branch's and the ensemble's score on the split that chose the epoch."""
    if not rows:
        return Html("")
    x = [row["epoch"] + 1 for row in rows]
    branches = len(rows[0][split].get(f"branch_{score}") or [])
    names = branch_names(run) if len(branch_names(run)) == branches else [f"branch_{s}" for s in range(branches)]
    series = [
        PlotSeries(name=name, x=x, y=[_hundred(row[split][f"branch_{score}"][s]) for row in rows])
        for s, name in enumerate(names)
    ]
    series.append(PlotSeries(name="ensemble", x=x, y=[_hundred(row[split].get(f"ensemble_{score}")) for row in rows]))
    word = "mIoU" if score == "miou" else "Accuracy"
    content = plot(
        "curve-score",
        f"{word} on {split} by epoch",
        PlotAxis(label="epoch", whole=True),
        PlotAxis(label=f"{word}, {split}, %", bounds=PERCENT),
        series,
        verticals=_best(best),
    )
    reading = f"Higher is better. Where the ensemble's line is above all branches, averaging helps.{_best_words(best)}"
    return figure(content, reading, title=f"{word} on {split.replace('_ema', ' (averaged weights)')}", panel=True)


def _by_epoch(
    key: str, title: str, sources: Sequence[tuple[str, list[dict[str, Any]], str | None]], best: int | None
) -> Html:
    """Return a chart of a number in metrics.jsonl by epoch.

    Args:
        sources: (name, rows, key of the split within a row) of each line; the key is None for the training itself.
    """
    series = []
    for name, rows, split in sources:
        values = [(row[split] if split else row).get(key) for row in rows]
        if any(isinstance(value, int | float) for value in values):
            numbers = [float("nan") if value is None else value for value in values]
            series.append(PlotSeries(name=name, x=[row["epoch"] + 1 for row in rows], y=numbers))
    if not series or (key == "agreement" and not any(value > 0 for each in series for value in each.y)):
        return Html("")
    content = plot(
        f"curve-{key}", f"{title} by epoch", PlotAxis(label="epoch", whole=True), PlotAxis(label=title), series,
        verticals=_best(best),
    )  # fmt: skip
    readings = {
        "loss": "Lower is better. A validation loss that rises while the training loss falls is a sign of "
        "over-fitting; augmented training images may make the training loss the higher one.",
        "agreement": "Distance of the branches' answers from one another. Near 0, all branches give the same answer.",
    }
    return figure(content, readings[key], title=title, panel=True) if content else content


def _hundred(value: float | None) -> float:
    return float("nan") if value is None else 100 * value


def _best(best: int | None) -> list[float]:
    return [] if best is None else [best + 1]


def _best_words(best: int | None) -> str:
    return "" if best is None else " The dashed vertical line is the best epoch, whose weights were evaluated."


def _commands(run: RunFiles) -> Html:
    lines = []
    flags = run.folder / "run.flags"
    if flags.is_file():
        first = flags.read_text(encoding="utf-8", errors="replace").split("\n", 1)[0]
        if first.startswith("# "):
            lines += ["# train", first.removeprefix("# "), "# the same, with every flag written out"]
        lines.append(f"python train.py --flagfile={flags}")
    lines += ["# evaluate again, and make this page again", f"python evaluate.py --workdir={run.folder}"]
    data = run.record.get("data", {})
    facts = element("p", f"Data: {data.get('name')}, fingerprint {data.get('fingerprint')}.") if data else ""
    return joined(commands(lines, run.record.get("versions", {})), facts)
