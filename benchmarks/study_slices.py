"""Study of slices: branches that start from parts of a trained network's channels, against branches that start new.

python -m benchmarks.study_slices --data_dir=DIR [--minutes=8] [--seeds=0,1,2]
Runs for at most --minutes; call it again until all runs are finished. Each finished run appends one line to
benchmarks/results/study_slices.jsonl, with the validation accuracy after each epoch. --table prints the table.

Protocol, fixed before the runs:

* Data: each seed's runs train on 5,000 images of CIFAR-10; the subsets of the three seeds are disjoint. 5,000 other
  training images are for validation after each epoch, and choose the epoch. The test is CIFAR-10's, 10,000 images.
* Network: WRN-10-3, divided into two branches WRN-10-2, co-trained with crops, flips and agreement. The recipe is that
  of configs/cifar10_cpu.flags for 60 epochs, with batches of 64. Every arm has its learning rate; none is tuned.
* Every arm has its own cosine, which ends with its last epoch. A quarter is a recipe of 15 epochs, not the first 15 of
  the 60.
* Slices come from the whole of the same seed, which is trained on the same images for 60 epochs.
* Flat: 60 epochs run until validation is flat if noise gains less than one point of top-1 when it runs twice as long.
* **Bar: slices in a quarter of the epochs minus noise in all of them is at least 0, in the ensemble's test top-1, as
  the mean over three seeds.** The table shows every arm's cost in multiply-adds, without and with the whole's: three
  forward passes in each step, and those of a teacher, which sees the view of every branch.
* The other arms are for comparison: a quarter from noise, all epochs from slices, and a quarter in which the whole is
  the teacher, too.
"""

import dataclasses
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import cifar_subsets
from benchmarks.study import ROOT, Piece, Study, go_on, spread
from dico_tf import flags

NAME = "study_slices"
SCRIPT = flags.Script(name=f"-m benchmarks.{NAME}", about=__doc__, fields=flags.of(Piece))
IMAGES = 5000
EPOCHS = 60
FOLDER = "{runs}/" + Study.folder("whole", "{seed}")  # of the whole of the same seed
RECIPE = [
    "--flagfile=configs/cifar10_cpu.flags", "--batch_size=64", "--image_size=32", "--keep=1",
    "--dataset=folder:{runs}/data/" + f"{IMAGES}_{{seed}}_cascade.csv",
]  # fmt: skip
SLICES = [f"--init_from={FOLDER}", "--init=slices"]
WHOLE, NOISE, TWICE = "whole", "noise", "noise, twice as long"
SLICED, NOISE_QUARTER, SLICED_QUARTER = "slices", "noise, a quarter", "slices, a quarter"
TAUGHT = "slices, a quarter, whole as teacher"


def _arm(epochs: int, *words: str) -> Sequence[str]:
    return [*RECIPE, f"--epochs={epochs}", *words]


ARMS: Mapping[str, Sequence[str]] = {  # in the order of the runs of a seed
    WHOLE: _arm(EPOCHS, "--splits=1"),
    SLICED_QUARTER: _arm(EPOCHS // 4, *SLICES),
    NOISE: _arm(EPOCHS),
    NOISE_QUARTER: _arm(EPOCHS // 4),
    TAUGHT: _arm(EPOCHS // 4, *SLICES, "--method=distill", f"--teacher={FOLDER}"),
    SLICED: _arm(EPOCHS, *SLICES),
    TWICE: _arm(2 * EPOCHS),
}


def curve(folder: Path, data_dir: str = "") -> dict:
    """Return the validation accuracy of a run's ensemble after each epoch."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {"validation": [round(row["validation"]["ensemble_accuracy"], 4) for row in rows]}


def cost(row: dict, teacher: int = 0) -> float:
    """Return the multiply-adds of a run's training; `teacher` is those of its teacher, for one image."""
    return row["epochs"] * IMAGES * (3 * row["macs"] + row["splits"] * teacher)


def table(finished: list[dict]) -> str:
    """Return a Markdown table of means and standard deviations over the seeds, and the bar."""
    rows = {arm: [row for row in finished if row["arm"] == arm] for arm in ARMS}
    lines = [
        "| start | runs | epochs | cost | with the whole | branch top-1 % | ensemble top-1 % |",
        "|---|---|---|---|---|---|---|",
    ]
    for arm in (arm for arm in ARMS if rows[arm]):
        first, branches = rows[arm][0], [100 * statistics.mean(row["branches_top1"]) for row in rows[arm]]
        ensembles = [100 * row["ensemble_top1"] for row in rows[arm]]
        cells = [str(len(rows[arm])), str(first["epochs"]), *_costs(arm, rows), spread(branches), spread(ensembles)]
        lines.append(f"| {arm} | {' | '.join(cells)} |")
    for one, other, what in ((SLICED_QUARTER, NOISE, "The bar"), (TWICE, NOISE, "Flat")):
        if differences := paired(rows[one], rows[other]):
            lines.append(f"\n{what}: {one} minus {other} is {spread(differences)} points ({len(differences)} seeds).")
    return "\n".join(lines)


def _costs(arm: str, rows: Mapping[str, list[dict]]) -> tuple[str, str]:
    """Return the cost of an arm, and its cost with that of the whole it starts from; noise in all epochs has 1."""
    if not rows[NOISE] or not rows[WHOLE]:
        return "", ""
    whole, unit = rows[WHOLE][0], cost(rows[NOISE][0])
    own = cost(rows[arm][0], whole["macs"] if arm == TAUGHT else 0)
    before = cost(whole) if SLICES[0] in ARMS[arm] else 0
    return f"{own / unit:.2f}", f"{(own + before) / unit:.2f}"


def paired(rows: Sequence[dict], others: Sequence[dict]) -> list[float]:
    """Return the differences in the ensemble's top-1, in points, of the seeds that both arms have."""
    top1 = {row["seed"]: row["ensemble_top1"] for row in others}
    return [100 * (row["ensemble_top1"] - top1[row["seed"]]) for row in rows if row["seed"] in top1]


STUDY = Study(name=NAME, arms=ARMS, table=table, more=curve)


def main(arguments: list[str]) -> None:
    values, _ = flags.parse(SCRIPT, arguments)
    piece = Piece(**values)
    if not piece.table:
        cifar_subsets.write(ROOT / STUDY.runs(piece) / "data", piece.data_dir)
    go_on(STUDY, dataclasses.replace(piece, data_dir=""))  # the runs read tables of images


if __name__ == "__main__":
    flags.run(main)
