"""Studies: sets of training runs that can be interrupted and continued, with one result line per finished run."""

import dataclasses
import json
import signal
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from dico_tf import child_process
from dico_tf.config import option
from dico_tf.files.json_files import FORMAT

ROOT = Path(__file__).parents[1]
SEEDS = (0, 1, 2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Call:
    """Flags of one call, which runs a part of a study."""

    data_dir: str = option("", "folder of the prepared CIFAR-10 (default: TFDS's own)")
    runs: str = option("", "folder of the runs (default: runs/STUDY)")
    minutes: float = option(8.0, "time limit of this call")
    table: bool = option(False, "only print the table of finished runs")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Piece(Call):
    """Flags of one call of a study in which every arm has every seed."""

    seeds: tuple[int, ...] = option(SEEDS, "seeds to run; calls with different seeds can run at once")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """A set of training runs: every arm with every seed."""

    name: str
    arms: Mapping[str, Sequence[str]]  # flags of train.py for each arm; {runs} and {seed} are replaced
    table: Callable[[list[dict]], str]  # result rows -> Markdown
    more: Callable[[Path, str], dict] = lambda folder, data_dir: {}  # further measurements of a finished run

    @property
    def results(self) -> Path:
        return ROOT / "benchmarks" / "results" / f"{self.name}.jsonl"

    def runs(self, piece: Call) -> Path:
        """Return the folder of the runs."""
        return ROOT / (piece.runs or f"runs/{self.name}")

    @staticmethod
    def folder(arm: str, seed: int | str) -> str:
        """Return the name of a run's folder."""
        return f"{arm.replace(' ', '_').replace(',', '')}-{seed}"

    def finished(self) -> list[dict]:
        return read_rows(self.results)

    def left(self, seeds: Sequence[int] = SEEDS) -> list[tuple[str, int]]:
        done = {(row["arm"], row["seed"]) for row in self.finished()}
        return [(arm, seed) for seed in seeds for arm in self.arms if (arm, seed) not in done]


def go_on(study: Study, piece: Piece) -> None:
    """Continue the runs of a study until its time is up or all have finished; then print the table."""
    until = time.monotonic() + 60 * piece.minutes
    while not piece.table and (left := study.left(piece.seeds)) and time.monotonic() < until:
        arm, seed = left[0]
        folder = _train(study, arm, seed, piece, until - time.monotonic())
        if folder:
            append(study.results, {**record(arm, seed, folder), **study.more(folder, piece.data_dir)})
    print(study.table(study.finished()))
    left = study.left()
    print(f"{len(left)} runs left: call again" if left else "all runs are finished")


def _train(study: Study, arm: str, seed: int, piece: Piece, seconds: float) -> Path | None:
    """Train one run; return its folder, or None if it had to stop because the time ran out."""
    runs = study.runs(piece)
    folder = runs / study.folder(arm, seed)
    words = [word.format(runs=runs, seed=seed) for word in study.arms[arm]]
    words += [f"--seed={seed}", *([f"--data_dir={piece.data_dir}"] if piece.data_dir else [])]
    return folder if trained(words, folder, seconds) else None


def trained(words: Sequence[str], folder: Path, seconds: float) -> bool:
    """Train or continue a run; return False if it had to stop because the time ran out.

    If this process ends, the run stops and saves its state, too.

    Args:
        words: flags of train.py, without --workdir.
        folder: of the run.
        seconds: time limit.
    """
    command = [*child_process.PYTHON, "dico_tf.cli", "train", *words, f"--workdir={folder}"]
    process = child_process.start(command, end_signal=signal.SIGTERM, cwd=ROOT)
    try:
        status = process.wait(seconds)
    except BaseException as error:  # Ctrl-C, too: the run saves its state, and the next call continues
        process.send_signal(signal.SIGTERM)
        process.wait()
        if isinstance(error, subprocess.TimeoutExpired):
            return False
        raise
    if status:
        raise SystemExit(status)
    return True


def read_rows(path: Path) -> list[dict]:
    """Return the rows of a results file; [] if it does not exist."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def append(path: Path, row: dict) -> None:
    """Append a row to a results file, and print it."""
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(row) + "\n")
    print(json.dumps(row), flush=True)


def record(arm: str, seed: int, folder: Path) -> dict:
    """Return the result row of a finished run."""
    evaluation = json.loads((folder / "evaluation_test.json").read_text())
    summary = json.loads((folder / "summary.json").read_text())
    return {
        "format": FORMAT,
        "arm": arm,
        "seed": seed,
        "model": summary["model"],
        "splits": summary["splits"],
        "params": summary["params"]["branches"],
        "macs": summary["macs"]["branches"],
        "epochs": summary["epochs"],
        "seconds": summary["seconds"],
        "branches_top1": [branch["top1"] for branch in evaluation["branches"]],
        "ensemble_top1": evaluation["ensemble"]["top1"],
        "ensemble_nll": evaluation["ensemble"]["nll"],
        "ensemble_ece": evaluation["ensemble"]["ece"],
        "disagreement": evaluation["diversity"]["disagreement"],
    }


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Format the mean and the standard deviation of some values."""
    around = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{around}"
