"""A comparison for people: one sentence that says what can be concluded, and a table."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dico_tf.evaluation.table import table

SIGNIFICANCE = 0.05


def conclusion(comparison: Mapping[str, Any]) -> str:
    """Return one sentence about what a comparison shows, and what it does not.

    Args:
        comparison: content of comparison.json; its "conclusion" is not used.
    """
    differences = comparison["differences"]
    if not differences:
        return "Nothing can be concluded yet: no two arms have a finished run with the same seed."
    parts = [_sentence(row, len(differences)) for row in differences if row["p_holm"] is not None]
    few = [row for row in differences if row["p_holm"] is None]
    if few:
        seeds = max(row["seeds"] for row in few)
        names = _listed([row["arm"] for row in few])
        count = "one seed" if seeds == 1 else f"{seeds} seeds"
        parts.append(f"nothing can be concluded about {names} with {count}, because an interval needs at least 3")
    costs = [arm for arm in comparison["arms"] if arm["cost_differs"]]
    parts += [f"{arm['name']} has {_cost(arm, comparison['arms'][0]['name'])}" for arm in costs]
    text = "; ".join(parts) + "."
    if comparison["missing"]:
        return f"So far, {text}"
    return text[0].upper() + text[1:] if text.startswith(("no difference", "nothing can")) else text


def _sentence(row: Mapping[str, Any], comparisons: int) -> str:
    arm, other = row["arm"], row["to"]
    low, high = 100 * row["low"], 100 * row["high"]
    if row["p_holm"] < SIGNIFICANCE:
        if row["mean"] > 0:
            return f"{arm} is ahead of {other} by {100 * row['mean']:.1f} points ({low:.1f} to {high:.1f})"
        return f"{arm} is behind {other} by {-100 * row['mean']:.1f} points ({-high:.1f} to {-low:.1f})"
    text = f"no difference between {arm} and {other} can be concluded ({low:+.1f} to {high:+.1f} points)"
    if row["p"] < SIGNIFICANCE:
        return f"{text}: it would be significant alone, but not as one of {comparisons} comparisons"
    return f"{text}, and one of up to {max(-low, high):.1f} points cannot be excluded"


def _cost(arm: Mapping[str, Any], first: str) -> str:
    ratios = [(arm["cost"]["relative_macs"], "multiply-adds"), (arm["cost"]["relative_params"], "parameters")]
    return _listed([f"{ratio:.2f} times the {what}" for ratio, what in ratios]) + f" of {first}"


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def comparison_table(comparison: Mapping[str, Any]) -> str:
    """Return a comparison.json as text: a row for each arm, remarks about trials and costs, and the conclusion."""
    first = comparison["arms"][0]["name"]
    differences = {row["arm"]: row for row in comparison["differences"]}
    headers = ["", "runs", "parameters", "multiply-adds", "ms", "top-1 %", "NLL", "ECE %", f"points to {first}", "p"]
    rows = [_row(arm, differences.get(arm["name"])) for arm in comparison["arms"]]
    remarks = [*_remarks(comparison)]
    return "\n".join([table(headers, rows, range(1, len(headers))), "", *remarks, comparison["conclusion"]])


def _row(arm: Mapping[str, Any], difference: Mapping[str, Any] | None) -> list[str | None]:
    cost, scores = arm["cost"], arm["scores"]
    mark = " *" if arm["cost_differs"] else ""
    counted = [None if cost[name] is None else f"{cost[name]:,}" for name in ("params", "macs")]
    cells = [arm["name"] + mark, str(len(arm["runs"])), *counted]
    cells.append(None if cost["milliseconds"] is None else f"{cost['milliseconds']:.2f}")
    for name, scale, digits in (("top1", 100, 2), ("nll", 1, 4), ("ece", 100, 2)):
        cells.append(_around(scores[name], scale, digits) if name in scores else None)
    return [*cells, *_difference_cells(difference)]


def _around(score: Mapping[str, Any], scale: float, digits: int) -> str:
    spread = "" if score["spread"] is None else f" ± {scale * score['spread']:.{digits}f}"
    return f"{scale * score['mean']:.{digits}f}{spread}"


def _difference_cells(row: Mapping[str, Any] | None) -> list[str | None]:
    if row is None:
        return [None, None]
    if row["half"] is None:
        return [f"{100 * row['mean']:+.2f}", None]
    return [f"{100 * row['mean']:+.2f} ± {100 * row['half']:.2f}", _probability(row["p_holm"])]


def _probability(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _remarks(comparison: Mapping[str, Any]) -> Iterator[str]:
    """Yield lines below the table: missing runs, costs that differ, chosen values."""
    seeds, images = comparison["seeds"], comparison["images"]
    if comparison["missing"]:
        missing = comparison["missing"]
        yield f"{missing} run{' is' if missing == 1 else 's are'} missing: the same command goes on"
    if images:
        which = f"seeds {seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f"seed {seeds[0]}"
        yield f"{which}, {images:,} test images; ± is the standard deviation of the seeds,"
        yield "or the 95 % interval of a difference; p is corrected for the number of comparisons"
    if any(arm["cost_differs"] for arm in comparison["arms"]):
        yield "* costs over 5 % more or less than the first arm: not a comparison at equal cost"
    for arm in comparison["arms"]:
        if arm["chosen"]:
            values = ", ".join(f"--{flag}={value}" for flag, value in arm["chosen"].items())
            edge = ", ".join(f"--{flag}" for flag in arm["at_edge"])
            more = f"; {edge} is at the edge of the values tried, and a better one may lie beyond" if edge else ""
            yield f"{arm['name']}: {values}, by {len(arm['trials'])} trials on validation images{more}"
