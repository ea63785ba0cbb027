"""The cascades of EfficientNets of arXiv 2012.01988, recomputed from who is asked how often.

Exit shares and the cost, latency and throughput of single networks are as remembered, and were not checked against the
paper. Three columns, independent of each other, come out as remembered: that speaks for them, and proves nothing.
"""

import dataclasses
from collections.abc import Sequence

SINGLES = {  # of EfficientNets: giga multiply-adds, ms of one image, images a second; all as remembered
    "B0": (0.39, 2.21, 2452), "B1": (0.69, 3.7, 1436), "B2": (1.0, 5.2, 1156), "B3": (1.8, 9.7, 767),
    "B4": (4.4, 16.6, 408), "B5": (10.3, 27.2, 220),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Row:
    members: tuple[str, ...]
    exits: tuple[float, ...]  # %, after each member
    recalled: tuple[float, float, float]  # giga multiply-adds, ms, images a second of the cascade, as remembered


ROWS = (
    Row(("B0", "B1"), (78.7, 21.3), (0.54, 3.0, 1798)),
    Row(("B0", "B1", "B3"), (73.2, 21.4, 5.4), (0.67, 3.7, 1509)),
    Row(("B0", "B3", "B3"), (68.0, 26.4, 5.7), (1.1, 5.9, 1111)),
    Row(("B2", "B4", "B4", "B4"), (67.6, 21.2, 0.0, 11.2), (3.4, 14.1, 453)),
    Row(("B2", "B4", "B5", "B5"), (67.6, 21.2, 5.9, 5.3), (4.1, 15.1, 415)),
    Row(("B3", "B5", "B5", "B5"), (67.3, 21.6, 5.6, 5.5), (6.9, 23.2, 280)),
)


def reach(exits: Sequence[float]) -> list[float]:
    """Shares of the images that come to each member; exits in % that add up to about 100."""
    return [1 - sum(exits[:k]) / 100 for k in range(len(exits))]


def computed(row: Row) -> tuple[float, float, float]:
    """sum_k reach_k cost_k, sum_k reach_k ms_k, and 1 / sum_k (reach_k / throughput_k)."""
    pairs = [(share, SINGLES[member]) for share, member in zip(reach(row.exits), row.members, strict=True)]
    macs, milliseconds, seconds = (
        sum(share * of(single) for share, single in pairs)
        for of in (lambda s: s[0], lambda s: s[1], lambda s: 1 / s[2])
    )
    return macs, milliseconds, 1 / seconds


def worst(row: Row) -> float:
    return sum(SINGLES[member][0] for member in row.members)


def table() -> str:
    """As docs/committees.md shows it."""
    lines = ["| members | exits, % | G multiply-adds | ms | images/s | worst G |", "|---|---|---|---|---|---|"]
    for row in ROWS:
        macs, milliseconds, rate = computed(row)
        cells = [", ".join(row.members), ", ".join(f"{share:g}" for share in row.exits),
                 f"{macs:.2f} / {row.recalled[0]:g}", f"{milliseconds:.1f} / {row.recalled[1]:g}",
                 f"{rate:.0f} / {row.recalled[2]:g}", f"{worst(row):.1f}"]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
