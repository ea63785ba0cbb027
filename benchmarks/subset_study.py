"""Studies on disjoint subsets of a dataset: trials choose the settings of each arm, then it runs on every subset."""

import contextlib
import dataclasses
import itertools
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.paired import pack, unpack
from benchmarks.study import ROOT, Call, read_rows, record, spread
from dico_tf.committee import pool
from dico_tf.committee.decision import Committee, ensemble
from dico_tf.committee.scoring import scores_of
from dico_tf.compare.paired import paired_difference
from dico_tf.evaluation.cost import Cost, branch_costs
from dico_tf.files.json_files import read_of_run
from dico_tf.files.locks import lock

SETTINGS = ("lr", "weight_decay", "agreement_weight", "agreement_warmup_epochs")  # kept in a run's row
WAIT = 10.0  # seconds before a call looks for work again
Trial = tuple[float, ...]  # values of an arm's settings
Plan = Sequence[tuple[Sequence[str], int, Sequence[int]]]  # (arms, images, subsets): trials, then each subset
COSTS = (("params", 1e6, 2), ("macs", 1e6, 1), ("seconds", 1, 0))  # column, divisor, digits; medians in the table
Side = tuple[str, int]  # an arm, and the number of images


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arm:
    """A way to train; the arm is compared by its ensemble, or by a cascade of its members if it has `cascade_of`."""

    flags: Sequence[str] = ()
    trials: Sequence[Trial] = ()
    extend: Callable[[Mapping[Trial, float]], Trial | None] = lambda ranks: None  # returns one more trial, if any
    trial_images: int = 0  # images of the trials; 0 = trials of their own for each number of images
    trials_of: str = ""  # arm whose trials choose; "" = this arm
    teacher: str = ""  # arm whose network of the same subset is the teacher
    cascade_of: str = ""  # arm whose members the cascade asks; nothing is trained


@dataclasses.dataclass(frozen=True)
class Unit:
    """One run, or one cascade: an arm on one subset. `trial` has the values to try, or is None."""

    arm: str
    images: int
    subset: int
    trial: Trial | None = None

    @property
    def folder(self) -> str:
        words = "".join(letter if letter.isalnum() else "_" for letter in self.arm)
        tried = "".join(f"-{value:g}" for value in self.trial or ())
        return f"{words}-{self.images}-{self.subset}{tried}"


def unit_of(row: Mapping) -> Unit:
    """Return the unit of a row of the results file."""
    return Unit(row["arm"], row["images"], row["seed"], tuple(row["trial"]) if row["trial"] else None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SubsetStudy:
    """The runs of a study, in their order, and the rule by which trials choose."""

    name: str
    arms: Mapping[str, Arm]
    plan: Plan
    comparisons: Sequence[tuple[Side, Side]]  # the second side is subtracted; the first comparison is the primary one
    rank: Callable[[Mapping], float]  # of a trial's row: the largest counts; of equals, the first trial

    @property
    def results(self) -> Path:
        return ROOT / "benchmarks" / "results" / f"{self.name}.jsonl"

    def runs(self, call: Call) -> Path:
        """Return the folder of the runs."""
        return (ROOT / (call.runs or f"runs/{self.name}")).resolve()

    def trials(self, name: str, images: int, rows: Sequence[Mapping]) -> list[Trial]:
        """Return the trials of an arm, with those that the finished ones ask for; [] if another arm's trials choose."""
        arm = self.arms[name]
        if arm.cascade_of or arm.trials_of or images != (arm.trial_images or images):
            return []
        trials, ranks = list(arm.trials), self._ranks(rows, name, images)
        while set(trials) <= ranks.keys() and (more := arm.extend({trial: ranks[trial] for trial in trials})):
            trials.append(more)
        return trials

    def _ranks(self, rows: Sequence[Mapping], name: str, images: int) -> dict[Trial, float]:
        units = ((unit_of(row), row) for row in rows)
        return {
            unit.trial: self.rank(row)
            for unit, row in units
            if unit.trial and (unit.arm, unit.images) == (name, images)
        }

    def units(self, rows: Sequence[Mapping]) -> Iterator[Unit]:
        """Yield all runs and cascades of the study in their order, as far as the finished rows tell."""
        for names, images, subsets in self.plan:
            for name in names:
                yield from (Unit(name, images, 0, trial) for trial in self.trials(name, images, rows))
            for subset, name in itertools.product(subsets, names):
                yield Unit(name, images, subset)

    def missing(self, rows: Sequence[Mapping]) -> list[Unit]:
        """Return the units without a row, in their order."""
        done = {unit_of(row) for row in rows}
        return [unit for unit in self.units(rows) if unit not in done]

    def ready(self, unit: Unit, left: Sequence[Unit]) -> bool:
        """Return whether the trials, the teacher and the members that a unit needs are finished."""
        arm = self.arms[unit.arm]
        chooser, images = arm.trials_of or unit.arm, arm.trial_images or unit.images
        waiting = not unit.trial and any(one.trial and (one.arm, one.images) == (chooser, images) for one in left)
        needed = {Unit(name, unit.images, unit.subset) for name in (arm.teacher, arm.cascade_of) if name}
        return not waiting and not needed & set(left)

    def chosen(self, rows: Sequence[Mapping], name: str, images: int) -> Trial:
        """Return the values that an arm's trials choose."""
        name = self.arms[name].trials_of or name
        images = self.arms[name].trial_images or images
        ranks = self._ranks(rows, name, images)
        return max(self.trials(name, images, rows), key=lambda trial: ranks[trial])

    def go_on(self, call: Call, prepare: Callable[[Path], None], finish: Callable[[Unit, float, Path], None]) -> None:
        """Continue the study until its time is up or nothing is missing; then print the tables.

        Args:
            prepare: writes the data into a folder, unless they are there.
            finish: runs a unit and appends its row. It appends nothing if it must stop before. It is given the unit,
                the time to stop of the monotonic clock, and the folder of all runs.
        """
        if not call.table:
            prepare(self.runs(call) / "data")
            self._work(self.runs(call), time.monotonic() + 60 * call.minutes, finish)
        print(self.summary(read_rows(self.results)))

    def _work(self, runs: Path, until: float, finish: Callable[[Unit, float, Path], None]) -> None:
        while time.monotonic() < until and (left := self.missing(read_rows(self.results))):
            with claim_first([unit for unit in left if self.ready(unit, left)], runs / "locks") as unit:
                if unit is None:  # other calls run all that could be run now
                    time.sleep(WAIT)
                elif unit in self.missing(read_rows(self.results)):  # no other call finished it meanwhile
                    finish(unit, until, runs)

    def tables(self, rows: Sequence[Mapping]) -> list[str]:
        """Return Markdown tables of the arms and of their comparisons; [] if no run but trials is finished."""
        final = [row for row in rows if not row["trial"]]
        return [scores_table(final, self.plan), comparisons_table(final, self.comparisons)] if final else []

    def summary(self, rows: Sequence[Mapping]) -> str:
        """Return the tables of all finished runs, and a line about what is missing."""
        left = self.missing(rows)
        state = f"{len(left)} runs are missing, next: {left[0]}" if left else "Nothing is missing."
        return "\n\n".join([*self.tables(rows), state])


@contextlib.contextmanager
def claim_first(units: Iterable[Unit], locks: Path) -> Iterator[Unit | None]:
    """Lock the first unit that no other process has locked, and yield it; yield None if there is none.

    Args:
        units: of a study, in their order.
        locks: folder of the lock files.
    """
    locks.mkdir(parents=True, exist_ok=True)
    for unit in units:
        with (locks / unit.folder).open("a") as stream:
            try:
                lock(stream)
            except BlockingIOError:
                continue
            yield unit
            return
    yield None


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
    setting = {name: config[name] for name in SETTINGS}
    row = {**record(unit.arm, unit.subset, folder), "images": unit.images, "trial": unit.trial, **setting}
    everyone = ensemble(*(f"branch_{s}" for s in range(row["splits"])), average=config["average"])
    return row if unit.trial else {**row, **scores(everyone, folder)}


def scores_table(final: Sequence[Mapping], plan: Plan) -> str:
    """Return a Markdown table with a row for each arm and number of images: median cost, mean scores.

    Args:
        final: rows of finished runs that are no trials.
        plan: of the study; it gives the order.
    """
    headers = ["images", "network", "runs", "parameters, M", "multiply-adds, M", "seconds", "branches' top-1 %"]
    headers += ["top-1 %", "NLL", "ECE %", "disagreement %"]
    lines = [f"| {' | '.join(headers)} |", "|---" * len(headers) + "|"]
    for name, images, subsets in ((name, *row[1:]) for row in plan for name in row[0]):
        rows = [row for row in final if (row["arm"], row["images"]) == (name, images)]
        if rows:
            costs = [_middle(rows, key, divisor, digits, statistics.median) for key, divisor, digits in COSTS]
            branches = zip(*(row.get("branches_top1", ()) for row in rows), strict=True)
            each = ", ".join(f"{100 * statistics.mean(values):.2f}" for values in branches)
            top1 = spread([100 * row["ensemble_top1"] for row in rows])
            nll = spread([row["ensemble_nll"] for row in rows], 3)
            others = [_middle(rows, key, 0.01, 2, statistics.mean) for key in ("ensemble_ece", "disagreement")]
            cells = [f"{images:,}", name, f"{len(rows)} of {len(subsets)}", *costs, each or "-", top1, nll, *others]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _middle(rows: Sequence[Mapping], key: str, divisor: float, digits: int, middle: Callable) -> str:
    """Format the mean or median of a column, divided by a number; "-" if a row lacks it, as those of cascades do."""
    values = [row.get(key) for row in rows]
    return "-" if None in values else f"{middle(values) / divisor:.{digits}f}"


def comparisons_table(final: Sequence[Mapping], comparisons: Sequence[tuple[Side, Side]]) -> str:
    """Return a Markdown table of paired differences and their intervals. The first row is the primary comparison.

    Args:
        final: rows of finished runs that are no trials.
        comparisons: each of two sides, (arm, images); the second is subtracted.
    """
    lines = ["| comparison | subsets | multiply-adds | points of top-1, 95 % interval |", "|---|---|---|---|"]
    for first, second in comparisons:
        sides = [{row["seed"]: row for row in final if (row["arm"], row["images"]) == side} for side in (first, second)]
        subsets = sorted(sides[0].keys() & sides[1].keys())
        if subsets:
            rows = [[side[n] for n in subsets] for side in sides]
            result = paired_difference(*(_right_answers(side) for side in rows))
            cost = float(np.divide(*(np.mean([row["macs"] for row in side]) for side in rows)))
            half = f"{100 * result.half:.2f}" if len(subsets) > 1 else "?"
            name = f"{first[0]}, {first[1]:,} images, minus {second[0]}, {second[1]:,} images"
            name = f"**primary**: {name}" if (first, second) == comparisons[0] else name
            cells = f"{len(subsets)} | {cost:.2f} | {100 * result.mean:+.2f} ± {half}"
            lines.append(f"| {name} | {cells} |")
    return "\n".join(lines)


def _right_answers(rows: Sequence[Mapping]) -> np.ndarray:
    """Return bool [subsets, test images]. Raises ValueError if the test images differ between the rows."""
    if len({row["test"] for row in rows}) > 1:
        raise ValueError("expected runs with the same test images")
    return np.stack([unpack(row["right"], row["tested"]) for row in rows])
