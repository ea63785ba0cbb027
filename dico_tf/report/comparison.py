"""report.html of a comparison, made from its comparison.json."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dico_tf.files import json_files
from dico_tf.report.axis import PlotAxis, short
from dico_tf.report.chart import ChartRow, PlotSeries, plot, rows
from dico_tf.report.markup import Html, Section, charts, commands, element, figure, joined, page, table
from dico_tf.report.written import NAME, written

_WORDS = {"top1": "accuracy", "top5": "top-5 accuracy", "miou": "mIoU", "ece": "ECE", "nll": "NLL"}
_SHARES = ("top1", "top5", "miou", "ece", "disagreement")  # scores that are shown in percent


def write_page(folder: str | Path) -> str:
    """Write report.html beside comparison.json; return a line with its path, or with the reason why there is none."""
    return written(Path(folder), lambda: comparison_page(Path(folder)))


def comparison_page(folder: Path) -> str:
    """Return the page of a comparison. Raises UserError if comparison.json is missing or damaged."""
    content = json_files.read(
        folder / "comparison.json",
        "a comparison.json",
        missing="compare.py writes it; compare first",
        again="compare again",
    )
    arms = content.get("arms", [])
    sections = [
        Section("Conclusion", _conclusion(content)),
        Section("Arms", _arms(folder, content, arms)),
        Section("Differences", _differences(content)),
        Section("Accuracy against cost", _against_cost(content, arms)),
        Section("Trials", _trials(arms)),
        Section("Commands and versions", _commands(content)),
    ]
    title = "Comparison of " + ", ".join(str(arm["name"]) for arm in arms)
    return page(title, _lead(content), sections)


def _word(content: Mapping[str, Any]) -> str:
    return _WORDS.get(content["score"], str(content["score"]))


def _lead(content: Mapping[str, Any]) -> str:
    seeds = content.get("seeds", [])
    images = f"{content['images']:,} " if content.get("images") else ""
    return (
        f"{len(content['arms'])} arms with {len(seeds)} seed{'' if len(seeds) == 1 else 's'} each, compared by "
        f"{_word(content)} on {images}{content['split']} images."
    )


def _conclusion(content: Mapping[str, Any]) -> Html:
    missing = content.get("missing") or 0
    note = f"The comparison is not complete: {missing} run{'' if missing == 1 else 's'} missing." if missing else ""
    parts = [element("p", content["conclusion"])] if content.get("conclusion") else []
    return joined(*parts, element("p", element("strong", note)) if note else "")


def _number(name: str, value: float | None) -> str | None:
    if value is None:
        return None
    return f"{100 * value:.2f}" if name in _SHARES else f"{value:.4f}"


def _score(name: str, score: Mapping[str, Any]) -> str | None:
    """Return "mean ± spread" of a score over the seeds."""
    mean = _number(name, score.get("mean"))
    spread = _number(name, score.get("spread"))
    return mean if mean is None or spread is None else f"{mean} ± {spread}"


def _arms(folder: Path, content: Mapping[str, Any], arms: list[Mapping[str, Any]]) -> Html:
    if not arms:
        return Html("")
    names = list(dict.fromkeys([content["score"], *(name for arm in arms for name in arm.get("scores", {}))]))
    heads = [f"{_WORDS.get(name, name)}{' %' if name in _SHARES else ''}" for name in names]
    body, flags = [], []
    for arm in arms:
        cost, scores = arm.get("cost") or {}, arm.get("scores", {})
        values = scores.get(content["score"], {}).get("values", [])
        cells = [_score(name, scores.get(name, {})) for name in names]
        relative = cost.get("relative_macs")
        times = None if relative is None else f"{relative:.2f}{' (differs)' if arm.get('cost_differs') else ''}"
        body.append([arm["name"], len(values), *cells, *_cost(cost), times])
        edge = [f"--{flag.lstrip('-')} at the edge of its values" for flag in arm.get("at_edge", [])]
        chosen = [_setting(flag, value) for flag, value in arm.get("chosen", {}).items()]
        runs = _links(folder, arm)
        flags.append([arm["name"], *map(_lines, (arm.get("flags", []), chosen, edge, runs))])
    caption = (
        "Mean ± standard deviation over the seeds, and cost. Lower is better for NLL, ECE and cost. The last column is "
        "the multiply-adds relative to the first arm."
    )
    first = table(caption, ["arm", "runs", *heads, "parameters", "multiply-adds", "ms", "relative cost"], body)
    heads = ["arm", "flags", "chosen by trials", "remark", "runs"]
    second = table("Flags of each arm, the values that its trials chose, and its runs.", heads, flags, left=5)
    return joined(first, second)


def _cost(cost: Mapping[str, Any]) -> list[str | None]:
    whole = [None if cost.get(name) is None else f"{cost[name]:,.0f}" for name in ("params", "macs")]
    return [*whole, None if cost.get("milliseconds") is None else f"{cost['milliseconds']:.2f}"]


def _setting(flag: str, value: Any) -> str:
    return f"--{flag.lstrip('-')}={value}"


def _lines(items: Iterable[str]) -> Html:
    """Return items one below the other."""
    return joined(*(element("div", item, class_="item") for item in items))


def _links(folder: Path, arm: Mapping[str, Any]) -> list[str]:
    """Return the arm's runs, each with a link to its page if there is one."""
    runs = arm.get("runs") or []
    return [element("a", run, href=quote(f"{run}/{NAME}")) if (folder / run / NAME).is_file() else run for run in runs]


def _differences(content: Mapping[str, Any]) -> Html:
    """Return a dot-and-interval chart of the paired differences, and a table of them."""
    differences = content.get("differences", [])
    if not differences:
        return Html("")
    values, body, points = [], [], "points" if content["score"] in _SHARES else ""
    factor = 100 if points else 1
    for each in differences:
        mean, low, high = (None if each.get(n) is None else factor * each[n] for n in ("mean", "low", "high"))
        pair = f"{each['arm']} less {each['to']}"
        whole = low is not None and high is not None
        text = None if mean is None else f"{mean:+.2f}"
        values.append(
            ChartRow(label=pair, value=mean, value_text=text or "no value", interval=(low, high) if whole else None)
        )
        interval = f"{low:+.2f} to {high:+.2f}" if whole else None
        ps = [None if each.get(name) is None else f"{each[name]:.3f}" for name in ("p", "p_holm")]
        body.append([pair, text, interval, *ps, each.get("seeds"), f"{each.get('images') or 0:,}"])
    unit = f"difference in {_word(content)}{', ' + points if points else ''}"
    chart = rows("differences", f"Paired differences in {_word(content)}", PlotAxis(label=unit), values, zero=True)
    reading = (
        "Dots are mean differences between runs of the same seed, bars their 95 % intervals. An interval that touches "
        "the dashed line at 0 does not show that the arms differ; a dot without a bar has too few runs for an interval."
    )
    caption = "p is that of the paired difference; Holm's p is corrected for the number of differences."
    heads = ["difference", "mean", "95 % interval", "p", "p, Holm", "seeds", "images"]
    return joined(charts(figure(chart, reading, panel=True)), table(caption, heads, body))


def _against_cost(content: Mapping[str, Any], arms: list[Mapping[str, Any]]) -> Html:
    series, score = [], content["score"]
    factor = 100 if score in _SHARES else 1
    for arm in arms:
        values = arm.get("scores", {}).get(score, {})
        macs, mean = (arm.get("cost") or {}).get("macs"), values.get("mean")
        if not macs or mean is None:
            continue
        low, high = min(values.get("values") or [mean]), max(values.get("values") or [mean])
        note = f"{arm['name']}: {_score(score, values)}, {short(macs)} multiply-adds"
        series.append(
            PlotSeries(
                name=str(arm["name"]),
                x=[macs],
                y=[factor * mean],
                intervals=[(factor * low, factor * high)],
                line=False,
                notes=[note],
            )
        )
    if len(series) < 2:
        return Html("")
    unit = ", %" if factor == 100 else ""
    chart = plot(
        "cost",
        f"{_word(content)} against multiply-adds",
        PlotAxis(label="multiply-adds of an image", log=True),
        PlotAxis(label=f"{_word(content)}, {content['split']}{unit}"),
        series,
    )
    reading = (
        "Up and to the left is better. Marks are means of an arm's runs; bars reach from the worst run to the best."
    )
    return charts(figure(chart, reading, panel=True))


def _trials(arms: list[Mapping[str, Any]]) -> Html:
    body = []
    for arm in arms:
        for trial in arm.get("trials", []):
            values = trial.get("values", {})
            chosen = bool(values) and values == arm.get("chosen")
            nll = None if trial.get("nll") is None else f"{trial['nll']:.4f}"
            settings = ", ".join(_setting(flag, value) for flag, value in values.items())
            body.append([arm["name"], settings, "chosen" if chosen else "", trial.get("run"), nll])
    if not body:
        return Html("")
    caption = "Trials that chose the values of tuned flags for each arm; the lowest NLL on validation images is chosen."
    return table(caption, ["arm", "values", "", "run", "NLL"], body, left=4)


def _commands(content: Mapping[str, Any]) -> Html:
    lines = [line for line in (content.get("command"),) if line]
    if content.get("flagfile"):
        lines.append(f"# flags of all arms: {content['flagfile']}")
    return commands(lines, content.get("versions") or {})
