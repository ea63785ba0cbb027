"""Charts: where points lie, what ticks say, and what is left out."""

import math
import re

import pytest

from dico_tf.report.axis import PlotAxis, short
from dico_tf.report.chart import ChartRow, PlotSeries, plot, rows
from tests.report.pages import parsed

AXIS = PlotAxis(label="x", limits=(0, 10))


def drawn(*series, x=AXIS, y=AXIS, **more):
    return parsed(plot("name", "title", x, y, series, **more))


def marks(root):
    """Pixels of the marks in the chart itself."""
    svg = next(root.all("svg"))
    places = [each.attributes["transform"] for each in svg.all("path") if "transform" in each.attributes]
    return [tuple(map(float, re.findall(r"[-\d.]+", place))) for place in places]


def ticks(root):
    """Texts of the ticks of the vertical axis, then of the horizontal one."""
    texts = [each for each in root.all("text") if each.attributes.get("class") == "tick"]
    return [[each.text for each in texts if each.attributes["text-anchor"] == anchor] for anchor in ("end", "middle")]


def test_points_lie_between_the_edges_in_proportion():
    places = marks(drawn(PlotSeries(name="a", x=[0, 5, 10], y=[0, 5, 10])))
    assert places == [(50, 256), (238, 143), (426, 30)]


def test_on_a_log_axis_equal_ratios_are_equal_distances():
    axis = PlotAxis(label="x", limits=(1, 100), log=True)
    (a, _), (b, _), (c, _) = marks(drawn(PlotSeries(name="a", x=[1, 10, 100], y=[1, 1, 1]), x=axis))
    assert b - a == c - b > 100


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ((0, 1), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        ((0, 100), ["0", "20", "40", "60", "80", "100"]),
        ((-0.03, 0.001), ["-0.03", "-0.02", "-0.01", "0.00"]),
        ((0.1, 0.23), ["0.10", "0.15", "0.20"]),
        ((0.1, 0.212), ["0.100", "0.125", "0.150", "0.175", "0.200"]),
        ((0, 45000), ["0", "10 k", "20 k", "30 k", "40 k"]),
    ],
)
def test_ticks_are_round_numbers(limits, expected):
    up, _ = ticks(drawn(PlotSeries(name="a", x=[1], y=[limits[0]]), y=PlotAxis(label="y", limits=limits)))
    assert up == expected


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (9e6, 60e6, ["10 M", "20 M", "50 M"]),
        (1e3, 1e8, ["1 k", "10 k", "100 k", "1 M", "10 M", "100 M"]),
        (8.1e7, 9.9e7, ["85 M", "90 M", "95 M"]),
    ],
)
def test_ticks_of_a_log_axis(low, high, expected):
    axis = PlotAxis(label="x", limits=(low, high), log=True)
    _, across = ticks(drawn(PlotSeries(name="a", x=[low], y=[1]), x=axis))
    assert across == expected


def test_epochs_are_whole_numbers():
    _, across = ticks(drawn(PlotSeries(name="a", x=[1, 2, 3], y=[1, 1, 1]), x=PlotAxis(label="epoch", whole=True)))
    assert across == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("value", "expected"), [(950, "950"), (1234, "1.23 k"), (89e6, "89 M"), (999_960, "1 M"), (5.24e9, "5.24 G")]
)
def test_large_numbers_are_short(value, expected):
    assert short(value) == expected


def test_nan_interrupts_a_line_and_is_no_mark():
    root = drawn(PlotSeries(name="a", x=[1, 2, 3, 4, 5], y=[1, 2, math.nan, 4, 5]))
    (line,) = [each for each in next(root.all("svg")).all("path") if "line" in each.attributes["class"].split()]
    assert line.attributes["d"].count("M") == 2 and len(marks(root)) == 4


def test_without_a_finite_point_there_is_no_chart():
    assert plot("n", "t", AXIS, AXIS, [PlotSeries(name="a", x=[1], y=[math.nan])]) == ""
    assert plot("n", "t", AXIS, AXIS, []) == "" and rows("n", "t", AXIS, []) == ""


def test_one_value_everywhere_is_a_chart():
    root = drawn(PlotSeries(name="a", x=[3, 3], y=[0, 0]), x=PlotAxis(label="x"), y=PlotAxis(label="y"))
    assert len(marks(root)) == 2


def test_intervals_at_the_same_cost_stand_side_by_side():
    each = {"x": [5, 5], "y": [1, 2], "intervals": [(0, 2), (1, 3)], "line": False}
    places = [x for x, _ in marks(drawn(PlotSeries(name="a", **each), PlotSeries(name="b", **each)))]
    assert min(abs(a - b) for n, a in enumerate(places) for b in places[:n]) >= 9
    assert max(abs(x - 238) for x in places) <= 20


def test_series_differ_without_colour():
    series = [PlotSeries(name=f"s{n}", x=[0, 1], y=[0, 1]) for n in range(6)]
    svg = next(drawn(*series).all("svg"))
    paths = list(svg.all("path"))
    dashes = [path.attributes.get("stroke-dasharray") for path in paths if "line" in path.attributes["class"].split()]
    shapes = {path.attributes["d"] for path in paths if "mark" in path.attributes["class"].split()}
    assert len(set(dashes)) == 6 == len(shapes)


def test_a_long_line_is_thinned_to_its_ends():
    x = list(range(1800))
    root = drawn(PlotSeries(name="a", x=x, y=x), x=PlotAxis(label="x"), y=PlotAxis(label="y"))
    (line,) = [each for each in next(root.all("svg")).all("path") if "line" in each.attributes["class"].split()]
    assert line.attributes["d"].count("L") == 299 and not marks(root)
    assert "from 0 at 0 to 1799 at 1.8 k" in next(root.all("desc")).text


def test_labels_are_escaped_and_a_long_one_is_cut():
    label = "<b>&" + "x" * 200
    root = parsed(rows("n", "t", AXIS, [ChartRow(label=label, value=5, value_text="5 %", interval=(4, 6))]))
    texts = [each.text for each in root.all("text")]
    assert any(text.startswith("<b>&xxx") and text.endswith("…") and len(text) < 60 for text in texts)
    assert f"{label}: 5 %" in next(root.all("desc")).text and not list(root.all("b"))


def test_a_row_without_a_value_has_no_mark():
    root = parsed(
        rows("n", "t", PlotAxis(label="x"), [ChartRow(label="a", value=None, value_text="no value")], zero=True)
    )
    assert not marks(root) and "no value" in [each.text for each in root.all("text")]


def test_bars_start_at_zero():
    root = parsed(rows("n", "t", AXIS, [ChartRow(label="a", value=10, value_text="10")], bars=True))
    (bar,) = [each for each in root.all("path") if "mark" in each.attributes["class"].split()]
    assert bar.attributes["d"].startswith("M14.0 ") and "H426.0" in bar.attributes["d"]


def test_the_margin_of_an_axis_stays_within_its_bounds():
    axis = PlotAxis(label="y", bounds=(0, 100))
    (_, low), (_, high) = marks(drawn(PlotSeries(name="a", x=[1, 2], y=[0, 100]), y=axis))
    assert (low, high) == (256, 30)
    (_, low), (_, high) = marks(drawn(PlotSeries(name="a", x=[1, 2], y=[40, 60]), y=axis))
    assert low < 256 and high > 30


def test_a_cost_of_zero_is_drawn_on_a_linear_axis():
    axis = PlotAxis(label="cost", log=True)
    root = drawn(PlotSeries(name="a", x=[0, 5, 10], y=[1, 2, 3]), x=axis)
    (a, _), (b, _), (c, _) = marks(root)
    assert b - a == pytest.approx(c - b) and "log scale" not in root.text
    assert "cost (log scale)" in drawn(PlotSeries(name="a", x=[1, 5], y=[1, 2]), x=axis).text
