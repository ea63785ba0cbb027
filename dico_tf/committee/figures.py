"""Figures of a search as PNG: accuracy against cost, confidences, exits, and reliability."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dico_tf.committee import fitting
from dico_tf.committee.decision import NEVER, Committee, are_right, decide, ensemble, softmax
from dico_tf.committee.html_report import write_figure
from dico_tf.committee.pool import Pool
from dico_tf.committee.scoring import scores_of
from dico_tf.committee.search import Point

_UNITS = {"macs": (1e6, "million multiply-adds"), "params": (1e6, "million parameters"), "milliseconds": (1, "ms")}
_BINS = 15


def draw(folder: Path, committee: Committee, front: Sequence[Point], pool: Pool, split: str, measure: str) -> list[str]:
    """Write four PNG figures of a search into a folder and return their file names.

    All show results on the images of `pool`; titles name them by `split`. The cost is `measure`: macs, params or
    milliseconds.
    """
    import matplotlib

    matplotlib.use("Agg")
    drawings = {
        "accuracy_against_cost": lambda axes: _against_cost(axes, committee, front, pool, measure),
        "confidences": lambda axes: _confidences(axes, committee, pool),
        "exits": lambda axes: _exits(axes, committee, pool),
        "reliability": lambda axes: _reliability(axes, committee, pool),
    }
    return [_save(folder / f"{name}.png", name, drawing, split) for name, drawing in drawings.items()]


def _save(path: Path, name: str, drawing, split: str) -> str:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    drawing(axes)
    axes.set_title(f"{name.replace('_', ' ')}, {split} images")
    return write_figure(figure, path)


def _against_cost(axes, committee: Committee, front: Sequence[Point], pool: Pool, measure: str) -> None:
    unit, word = _UNITS[measure]
    by_cost = sorted(pool.members, key=lambda member: pool.cost(member, measure))
    how = {"average": committee.average, "confidence": committee.confidence}
    ensembles = [ensemble(*by_cost[:n], **how) for n in range(2, len(by_cost) + 1)]
    groups = {
        "front of the search": ([point.committee for point in front], ".-", "tab:blue"),
        "single members": ([Committee(members=(m,), **how) for m in by_cost], "s", "tab:gray"),
        "ensembles of the cheapest": (ensembles, "^", "tab:orange"),
        "chosen": ([committee], "*", "tab:red"),
    }
    for name, (members, style, colour) in groups.items():
        scores = [scores_of(one, pool, measure) for one in members]
        spot = {"markersize": 16, "zorder": 3} if name == "chosen" else {}
        axes.plot(
            [one.cost / unit for one in scores],
            [100 * one.accuracy for one in scores],
            style,
            color=colour,
            label=name,
            **spot,
        )
    axes.set(xlabel=f"average {word} an image", ylabel="accuracy, %", xscale="log")
    axes.legend()
    axes.grid(alpha=0.3)


def _confidences(axes, committee: Committee, pool: Pool) -> None:
    """Plot histograms of the first member's confidences, for its right and its wrong answers, with its gate."""
    decision = decide(committee, pool.stacked(committee.members))
    first = decision.confidence[:, 0]
    answered = are_right(pool.logits[committee.members[0]], pool.labels)
    finite = np.isfinite(first)
    edges = np.linspace(first[finite].min(), first[finite].max() + 1e-9, 40) if finite.any() else 10
    axes.hist(
        [first[finite & answered], first[finite & ~answered]],
        edges,
        stacked=True,
        label=["right", "wrong"],
        color=["tab:blue", "tab:red"],
    )
    if committee.gates and committee.gates[0] != NEVER:
        axes.axvline(committee.gates[0], color="black", linestyle="--", label="gate")
    axes.set(xlabel=f"{committee.confidence} of {committee.members[0]}", ylabel="images")
    axes.legend()


def _exits(axes, committee: Committee, pool: Pool) -> None:
    stage = decide(committee, pool.stacked(committee.members)).stage
    shares = np.bincount(stage, minlength=len(committee.members)) / len(stage)
    bars = axes.bar(committee.members, 100 * shares, color="tab:blue")
    axes.bar_label(bars, [f"{100 * share:.1f} %" for share in shares])
    axes.set(ylabel="images answered after this member, %")
    axes.tick_params(axis="x", labelrotation=20)


def _reliability(axes, committee: Committee, pool: Pool) -> None:
    """Plot the accuracy of the committee's answers against their max prob.

    A second line divides their logits by a temperature that is fitted to these very images.
    """
    decision = decide(committee, pool.stacked(committee.members))
    finite = ~decision.lost
    logits, labels = decision.logits[finite], pool.labels[finite]
    temperature = fitting.temperature(logits, labels) if finite.any() else 1.0
    for name, values, colour in (
        ("as it is", logits, "tab:red"),
        (f"temperature {temperature:.2f}", logits / temperature, "tab:blue"),
    ):
        p = softmax(values)
        confidence, right = p.max(1), p.argmax(1) == labels
        place = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
        count = np.bincount(place, minlength=_BINS)
        full = count > 0
        mean = [np.bincount(place, of, _BINS)[full] / count[full] for of in (confidence, right)]
        axes.plot(*mean, "o-", color=colour, label=name)
    axes.plot([0, 1], [0, 1], color="black", linestyle=":", linewidth=1)
    axes.set(xlabel="max prob of the answer", ylabel="share that is right", xlim=(0, 1), ylim=(0, 1))
    axes.legend()
