"""Aligned text tables for the terminal."""

import unicodedata
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from dico_tf.evaluation.metrics import SCORES

_GAP = "  "
ALL_CLASSES, EXTREMES = 20, 5  # classes of which each has a row; of more, the best and the worst


def table(headers: Sequence[str], rows: Iterable[Sequence[Any]], right_aligned: Collection[int] = ()) -> str:
    """Return headers, a rule and rows in aligned columns; None is printed as -.

    Args:
        right_aligned: numbers, from 0, of the columns that are flush right.
    """
    cells = [[_cell(value) for value in row] for row in (headers, *rows)]
    for row in cells:
        if len(row) != len(headers):
            raise ValueError(f"a row has {len(row)} cells under {len(headers)} headers: {row}")
    widths = [max(map(_width, column)) for column in zip(*cells, strict=True)]
    cells.insert(1, ["-" * width for width in widths])
    return "\n".join(_line(row, widths, right_aligned) for row in cells)


def evaluation_table(evaluation: dict[str, Any]) -> str:
    """Return an evaluation_<split>.json as text: scores of each branch and the ensemble, and the diversity."""
    if evaluation.get("task") == "segmentation":
        return _segmentation_table(evaluation)
    named = [(f"branch_{number}", scores) for number, scores in enumerate(evaluation["branches"])]
    named.append((f"ensemble ({evaluation['average']})", evaluation["ensemble"]))
    names = [name for name in SCORES if name in evaluation["ensemble"]]  # older files have no newer scores
    rows = [[row, *((_percent if SCORES[n].percent else _number)(values[n]) for n in names)] for row, values in named]
    headers = ["", *(SCORES[name].heading for name in names)]
    body = table(headers, rows, range(1, len(headers)))
    return "\n".join([_heading(evaluation), "", body, "", *_footer(evaluation), *per_class_lines(evaluation)])


def per_class(evaluation: dict[str, Any]) -> list[tuple[str, int | None, float | None]]:
    """Return rows (class, images, the ensemble's accuracy) of up to 20 classes; [] for an evaluation without them.

    Of more classes, only the 5 with the highest accuracy and the 5 with the lowest are returned, among those that have
    images, with a row between that counts the others.
    """
    if not evaluation.get("per_class") or evaluation.get("task") == "segmentation":
        return []
    images = map(sum, evaluation["confusion"])
    rows = list(zip(evaluation["class_names"], images, evaluation["per_class"], strict=True))
    if len(rows) <= ALL_CLASSES:
        return rows
    ranked = sorted((row for row in rows if row[2] is not None), key=lambda row: -row[2])
    others = len(rows) - 2 * EXTREMES
    if len(ranked) <= 2 * EXTREMES:
        return ranked
    return [*ranked[:EXTREMES], (f"({others} other classes)", None, None), *ranked[-EXTREMES:]]


def per_class_lines(evaluation: dict[str, Any]) -> list[str]:
    """Return an empty line and a table of the ensemble's accuracy by class; [] for an evaluation without it."""
    rows = [(name, count, _percent(share)) for name, count, share in per_class(evaluation)]
    return ["", table(["class", "images", "accuracy %"], rows, (1, 2))] if rows else []


def _segmentation_table(evaluation: dict[str, Any]) -> str:
    """Return a heading, tables of mIoU, pixel accuracy and the IoU of each class, averages and disagreement."""
    named = [(f"branch_{number}", scores) for number, scores in enumerate(evaluation["branches"])]
    named.append((f"ensemble ({evaluation['average']})", evaluation["ensemble"]))
    rows = [[name, _percent(s["miou"]), _percent(s["pixel_accuracy"])] for name, s in named]
    of_classes = [
        [name, *(_percent(s["iou"][c]) for _, s in named)] for c, name in enumerate(evaluation["class_names"])
    ]
    averages = ", ".join(f"{name} {_percent(miou)}" for name, miou in evaluation["averages"].items())
    return "\n".join(
        [
            _heading(evaluation),
            "",
            table(["", "mIoU %", "pixels %"], rows, range(1, 3)),
            "",
            table(["IoU %", *(name for name, _ in named)], of_classes, range(1, len(named) + 1)),
            "",
            f"ensemble mIoU % by average: {averages}",
            f"branches disagree on {_percent(evaluation['diversity']['disagreement'])} % of the pixels",
        ]
    )


def _heading(evaluation: dict[str, Any]) -> str:
    images = evaluation.get("images") or sum(map(sum, evaluation["confusion"]))
    chosen = "validation" if evaluation["select"] == "validation" else "test itself, as papers do: optimistic"
    what = "videos" if "views" in evaluation else "images"
    return f"{evaluation['split']}: {images} {what}, {evaluation['weights']} weights, epoch chosen on {chosen}"


def _footer(evaluation: dict[str, Any]) -> list[str]:
    averages = ", ".join(f"{name} {_percent(top1)}" for name, top1 in evaluation["averages"].items())
    parts = evaluation["diversity"]
    score = f" ({parts['ambiguity_score']})" if parts["ambiguity_score"] else ""
    return [
        *_views(evaluation),
        f"ensemble top-1 % by average: {averages}",
        f"diversity: disagreement {_percent(parts['disagreement'])} %, Q {_number(parts['q_statistic'])}, "
        f"ambiguity {_number(parts['ambiguity'])}{score}",
    ]


def _views(evaluation: dict[str, Any]) -> list[str]:
    """Return a line about the views averaged for each video and their cost; nothing for images."""
    if "views" not in evaluation:
        return []
    v = evaluation["views"]
    return [
        f"each video by {v['clips']} x {v['crops']} views of {v['size']}x{v['size']} pixels: "
        f"{v['macs']:,} multiply-adds, {v['macs_of_view']:,} a view"
    ]


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _cell(value: Any) -> str:
    return "-" if value is None else str(value)


def _width(text: str) -> int:
    """Return the width in columns of a terminal: East Asian letters take two, combining marks none."""
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )


def _line(row: list[str], widths: list[int], right_aligned: Collection[int]) -> str:
    padded = []
    for column, (text, width) in enumerate(zip(row, widths, strict=True)):
        blanks = " " * (width - _width(text))
        padded.append(blanks + text if column in right_aligned else text + blanks)
    return _GAP.join(padded).rstrip()
