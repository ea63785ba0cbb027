"""Accuracy of a run's ensemble against the number of branches that do not answer, from its test predictions.

python -m benchmarks.members_lost --workdir=W [--svg=FILE]
Every set of branches that may remain is averaged as the gateway averages those that answered: mean, worst and best.
"""

import dataclasses
import itertools
import statistics
from pathlib import Path

import numpy as np

from dico_tf import flags
from dico_tf.config import option
from dico_tf.errors import UserError

_WIDTH, _HEIGHT, _EDGE = 480, 280, 48  # of the picture, in its own units


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measurement:
    workdir: str = option("", "folder of a trained run that has predictions.npz")
    svg: str = option("", "file to draw the curve into; none is drawn unless said")


SCRIPT = flags.Script(name="-m benchmarks.members_lost", about=__doc__, fields=flags.of(Measurement))


def curve(logits: np.ndarray, labels: np.ndarray, average: str) -> list[tuple[int, list[float]]]:
    """(branches lost, accuracies of every set that remains) of logits [N, S, C]."""
    from dico_tf.evaluation.averaging import combine

    branches = logits.shape[1]
    found = []
    for lost in range(branches):
        remaining = itertools.combinations(range(branches), branches - lost)
        right = [(combine(logits[:, list(kept)], average).argmax(1) == labels).mean() for kept in remaining]
        found.append((lost, [float(share) for share in right]))
    return found


def drawn(points: list[tuple[int, list[float]]]) -> str:
    """A picture: the mean as a line, from the worst set to the best as a band."""
    low = min(min(shares) for _, shares in points)
    high = max(max(shares) for _, shares in points)
    spare = 0.08 * (high - low) or 0.01
    low, high = low - spare, high + spare

    def place(lost: int, share: float) -> str:
        x = _EDGE + lost * (_WIDTH - 2 * _EDGE) / max(len(points) - 1, 1)
        y = _HEIGHT - _EDGE - (share - low) / (high - low) * (_HEIGHT - 2 * _EDGE)
        return f"{x:.1f},{y:.1f}"

    band = [place(n, max(shares)) for n, shares in points] + [place(n, min(shares)) for n, shares in reversed(points)]
    line = [place(n, statistics.mean(shares)) for n, shares in points]
    words = []
    for n, shares in points:
        x, y = place(n, statistics.mean(shares)).split(",")
        words.append(f'<text x="{x}" y="{_HEIGHT - _EDGE + 18}" text-anchor="middle">{n}</text>')
        words.append(
            f'<text x="{x}" y="{float(y) - 8:.1f}" text-anchor="middle">{100 * statistics.mean(shares):.1f}</text>'
        )
    font = 'font-family="sans-serif" font-size="11"'
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" {font}>',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<polygon points="{" ".join(band)}" fill="#cfe0f5"/>',
        f'<polyline points="{" ".join(line)}" fill="none" stroke="#1f5fa8" stroke-width="2"/>',
        *words,
        f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 10}" text-anchor="middle">branches lost</text>',
        f'<text x="{_EDGE}" y="{_EDGE / 2}">test accuracy, %: mean; from the worst set of branches to the best</text>',
        "</svg>",
    ]) + "\n"  # fmt: skip


def main(arguments: list[str]) -> None:
    values, _ = flags.parse(SCRIPT, arguments)
    asked = Measurement(**values)
    if not asked.workdir:
        raise UserError("--workdir is needed: the folder of a trained run")
    from benchmarks.measure import emit
    from dico_tf.files.json_files import read_of_run
    from dico_tf.files.tables import read_predictions

    found = read_predictions(Path(asked.workdir) / "predictions.npz")
    config = read_of_run(Path(asked.workdir) / "config.json")["config"]
    points = curve(found.logits, found.labels, config["average"])
    for lost, shares in points:
        about = {"lost": lost, "sets": len(shares), "worst": round(min(shares), 4), "best": round(max(shares), 4)}
        emit(
            "members_lost", statistics.mean(shares), "test accuracy", model=config["model"], splits=len(points), **about
        )
    if asked.svg:
        Path(asked.svg).write_text(drawn(points), encoding="utf-8")


if __name__ == "__main__":
    flags.run(main)
