"""Charts as inline SVG: lines and marks over two axes, and rows of dots or bars over one axis."""

import dataclasses
import math
import unicodedata
from collections.abc import Sequence

from dico_tf.report.axis import AxisScale, PlotAxis, scale_of, short
from dico_tf.report.markup import Html, element, joined
from dico_tf.report.style import SERIES

_WIDTH, _HEIGHT = 440, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 426, 30, 256  # edges of the plot
_MOST_POINTS = 300  # of a line; more are thinned out
_MARKED = 40  # lines of more points have no marks
_DASHES = (None, "7 3", "2 3", "9 3 2 3", "12 4", "5 2 1 2 1 2")
_MARKS = (
    "M-4 0A4 4 0 1 0 4 0A4 4 0 1 0-4 0Z", "M-3.6-3.6H3.6V3.6H-3.6Z", "M0-4.8L4.6 3.6H-4.6Z", "M0-5L5 0L0 5L-5 0Z",
    "M0 4.8L4.6-3.6H-4.6Z", "M-5 0H5M0-5V5", "M-4-4L4 4M-4 4L4-4", "M-5-1.5H5V1.5H-5Z",
)  # fmt: skip
_ROW = 42  # height of a row
_APART = 9  # pixels between the intervals of points with the same x


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlotSeries:
    """Points (x, y), joined by a line, marked, or both. A point with NaN interrupts the line.

    Points without a line, but with intervals, are drawn side by side if their x is the same.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    intervals: Sequence[tuple[float, float]] = ()  # vertical, of each point
    line: bool = True
    marks: bool = True
    notes: Sequence[str] = ()  # of each point, shown by the browser when the pointer rests on it


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChartRow:
    """A value with a label above it, and its interval."""

    label: str
    value: float | None
    value_text: str
    interval: tuple[float, float] | None = None


def plot(
    name: str,
    title: str,
    horizontal: PlotAxis,
    vertical: PlotAxis,
    series: Sequence[PlotSeries],
    *,
    guides: Sequence[tuple[tuple[float, float], tuple[float, float]]] = (),
    verticals: Sequence[float] = (),
) -> Html:
    """Return a chart of series with a legend; "" if there is no finite point.

    Args:
        name: identifies the chart within its page.
        title: what a reader hears who does not see the chart.
        guides: dashed lines from (x, y) to (x, y).
        verticals: x of dashed vertical lines.
    """
    series = [_thinned(each) for each in series]
    points = [(x, y) for each in series for x, y in zip(each.x, each.y, strict=True) if _finite(x, y)]
    if not points:
        return Html("")
    if min(x for x, _ in points) <= 0:
        horizontal = dataclasses.replace(horizontal, log=False)
    ends = [end for each in series for interval in each.intervals for end in interval if math.isfinite(end)]
    across = scale_of(horizontal, [x for x, _ in points] + list(verticals), _LEFT, _RIGHT)
    up = scale_of(vertical, [y for _, y in points] + ends, _BOTTOM, _TOP)
    parts = [_axes(across, up, horizontal.label + " (log scale)" * horizontal.log, vertical.label)]
    parts += [_line(across.place(x), up.place(y), across.place(u), up.place(v), "guide") for (x, y), (u, v) in guides]
    parts += [_line(across.place(x), _TOP, across.place(x), _BOTTOM, "guide") for x in verticals]
    taken: set[int] = set()  # pixels of columns with marks
    parts += [_drawn(each, number, across, up, taken) for number, each in enumerate(series)]
    summary = "; ".join(_described(each) for each in series)
    described = f"{vertical.label} against {horizontal.label}. {summary}."
    return joined(_svg(name, title, described, _HEIGHT, parts), _legend(series))


def _finite(x: float, y: float) -> bool:
    return math.isfinite(x) and math.isfinite(y)


def _thinned(series: PlotSeries) -> PlotSeries:
    count = len(series.x)
    places = range(count)
    if count > _MOST_POINTS:
        places = sorted({round(n * (count - 1) / (_MOST_POINTS - 1)) for n in range(_MOST_POINTS)})
    picked = {
        field: [getattr(series, field)[n] for n in places] if len(getattr(series, field)) else ()
        for field in ("x", "y", "intervals", "notes")
    }
    return dataclasses.replace(series, marks=series.marks and (count <= _MARKED or not series.line), **picked)


def _described(series: PlotSeries) -> str:
    values = [(x, y) for x, y in zip(series.x, series.y, strict=True) if _finite(x, y)]
    if not values:
        return f"{series.name}: no values"
    if len(values) == 1:
        return f"{series.name}: {values[0][1]:.4g} at {short(values[0][0])}"
    (first, before), (last, after) = values[0], values[-1]
    return f"{series.name}: from {before:.4g} at {short(first)} to {after:.4g} at {short(last)}"


def _axes(across: AxisScale, up: AxisScale, horizontal: str, vertical: str) -> Html:
    parts = []
    for value, number in up.ticks():
        y = up.place(value)
        parts += [_line(_LEFT, y, _RIGHT, y, "grid"), _words(_LEFT - 6, y + 4, number, "end", "tick")]
    parts += _ticks_below(across, _TOP, _BOTTOM)
    parts.append(_words(4, 14, vertical, "start"))
    parts.append(_words(_RIGHT, _BOTTOM + 36, horizontal, "end"))
    parts.append(element("path", d=f"M{_LEFT} {_TOP}V{_BOTTOM}H{_RIGHT}", class_="axis"))
    return joined(*parts)


def _ticks_below(across: AxisScale, top: float, bottom: float) -> list[Html]:
    parts = []
    for value, number in across.ticks():
        x = across.place(value)
        parts += [_line(x, top, x, bottom, "grid"), _words(x, bottom + 16, number, "middle", "tick")]
    return parts


def _beside(x: float, taken: set[int]) -> float:
    """Return x, or the nearest place beside it where no mark stands, and add it to the places that are taken."""
    steps = (sign * step for step in range(0, _LEFT, 2) for sign in (1, -1))
    free = next((x + step for step in steps if not any(abs(x + step - other) < _APART for other in taken)), x)
    taken.add(round(free))
    return free


def _drawn(series: PlotSeries, number: int, across: AxisScale, up: AxisScale, taken: set[int]) -> Html:
    colour, parts, run, path = f"s{number % SERIES}", [], False, []
    places: list[tuple[float, float] | None] = []
    for x, y in zip(series.x, series.y, strict=True):
        place = (across.place(x), up.place(y)) if _finite(x, y) else None
        if place and series.intervals and not series.line:
            place = _beside(place[0], taken), place[1]
        places.append(place)
    for place in places:
        if place:
            path.append(f"{'L' if run else 'M'}{place[0]:.1f} {place[1]:.1f}")
        run = place is not None
    if series.line and path:
        dash = _DASHES[number % len(_DASHES)]
        parts.append(element("path", d="".join(path), class_=f"line {colour}", stroke_dasharray=dash))
    for n, place in enumerate(places):
        if place is None:
            continue
        x, y = place
        if series.intervals:
            low, high = (up.place(end) for end in series.intervals[n])
            parts.append(
                _interval(f"M{x - 4:.1f} {low:.1f}h8M{x:.1f} {low:.1f}V{high:.1f}M{x - 4:.1f} {high:.1f}h8", colour)
            )
        if series.marks:
            parts.append(_mark(x, y, number, series.notes[n] if series.notes else ""))
    return joined(*parts)


def _interval(path: str, colour: str) -> Html:
    return element("path", d=path, class_=f"interval {colour}")


def _mark(x: float, y: float, number: int, note: str = "") -> Html:
    title = element("title", note) if note else Html("")
    return element(
        "path",
        title,
        d=_MARKS[number % len(_MARKS)],
        transform=f"translate({x:.1f} {y:.1f})",
        class_=f"mark s{number % SERIES}",
    )


def _line(x: float, y: float, u: float, v: float, name: str) -> Html:
    return element("path", d=f"M{x:.1f} {y:.1f}L{u:.1f} {v:.1f}", class_=name)


def _words(x: float, y: float, content: str, anchor: str, name: str | None = None) -> Html:
    return element("text", content, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor, class_=name)


def _svg(name: str, title: str, description: str, height: float, parts: Sequence[Html]) -> Html:
    head = (element("title", title, id=f"{name}-title"), element("desc", description, id=f"{name}-desc"))
    return element(
        "svg",
        *head,
        joined(*parts),
        viewBox=f"0 0 {_WIDTH} {height:g}",
        role="img",
        aria_labelledby=f"{name}-title {name}-desc",
        class_="chart",
    )


def _legend(series: Sequence[PlotSeries]) -> Html:
    items = []
    for number, each in enumerate(series):
        dash = _DASHES[number % len(_DASHES)]
        line = element("path", d="M1 8H33", class_=f"line s{number % SERIES}", stroke_dasharray=dash)
        key = joined(line if each.line else "", _mark(17, 8, number) if each.marks else "")
        sample = element("svg", key, viewBox="0 0 34 16", width="34", height="16", aria_hidden="true")
        items.append(element("li", sample, element("span", each.name)))
    return element("ul", *items, class_="legend")


def rows(
    name: str,
    title: str,
    axis: PlotAxis,
    values: Sequence[ChartRow],
    *,
    bars: bool = False,
    zero: bool = False,
) -> Html:
    """Return a chart with a row for each value: a dot with its interval, or a bar; "" if there are no rows.

    Args:
        name: identifies the chart within its page.
        title: what a reader hears who does not see the chart.
        bars: draw bars from 0 instead of dots.
        zero: draw a dashed line at 0, which the axis then includes.
    """
    if not values:
        return Html("")
    numbers = [row.value for row in values if row.value is not None]
    numbers += [end for row in values if row.interval for end in row.interval]
    scale = scale_of(axis, [*numbers, *([0.0] if zero or bars else [])], 14, _RIGHT)
    if bars and not axis.limits:
        scale = dataclasses.replace(scale, low=0.0)
    bottom = 8 + _ROW * len(values)
    parts = _ticks_below(scale, 4, bottom)
    if zero:
        parts.append(_line(scale.place(0), 4, scale.place(0), bottom, "guide"))
    for number, row in enumerate(values):
        parts.append(_row(row, 8 + _ROW * number, scale, bars))
    parts.append(_words(_RIGHT, bottom + 36, axis.label, "end"))
    summary = "; ".join(f"{row.label}: {row.value_text}" for row in values)
    return _svg(name, title, f"{axis.label}. {summary}.", bottom + 44, parts)


def _row(row: ChartRow, top: float, scale: AxisScale, bars: bool) -> Html:
    y = top + 27
    most = (_RIGHT - 14) // 8 - len(row.value_text) - 2
    parts = [_words(14, top + 13, _cut(row.label, most), "start"), _words(_RIGHT, top + 13, row.value_text, "end")]
    if row.value is None:
        return joined(*parts)
    x = scale.place(row.value)
    if bars:
        start = scale.place(0)
        bar = f"M{start:.1f} {y - 6:.1f}H{max(x, start + 1):.1f}V{y + 6:.1f}H{start:.1f}Z"
        parts.append(element("path", element("title", f"{row.label}: {row.value_text}"), d=bar, class_="mark s0"))
    if row.interval:
        low, high = (scale.place(end) for end in row.interval)
        colour = "s7" if bars else "s0"
        path = f"M{low:.1f} {y - 5}v10M{low:.1f} {y}H{high:.1f}M{high:.1f} {y - 5}v10"
        parts.append(_interval(path, colour))
    if not bars:
        parts.append(_mark(x, y, 0, f"{row.label}: {row.value_text}"))
    return joined(*parts)


def _cut(label: str, most: int) -> str:
    """Return a label cut to `most` columns; wide letters take two."""
    width = 0
    for place, letter in enumerate(label):
        width += 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        if width > most:
            return label[: max(place - 1, 1)] + "…"
    return label
