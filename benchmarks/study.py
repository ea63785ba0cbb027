"""Training runs that answer a question, in pieces that can be interrupted, and one line for each that has finished."""

import dataclasses
import json
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from dico_tf.config import FORMAT, option

ROOT = Path(__file__).parents[1]
SEEDS = (0, 1, 2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Piece:
    data_dir: str = option("", "folder that holds prepared CIFAR-10 (default: TFDS's own)")
    runs: str = option("", "folder of the runs (default: runs/ and the study's name)")
    minutes: float = option(8.0, "length of this piece")
    seeds: tuple[int, ...] = option(SEEDS, "seeds of this piece: pieces of different seeds can run at once")
    table: bool = option(False, "print the table of what is finished")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    name: str
    arms: Mapping[str, Sequence[str]]  # what train.py is told of each
    table: Callable[[list[dict]], str]  # Markdown of the rows that are there
    more: Callable[[Path, str], dict] = lambda folder, data_dir: {}  # what else is measured of a finished run

    @property
    def results(self) -> Path:
        return ROOT / "benchmarks" / "results" / f"{self.name}.jsonl"

    def finished(self) -> list[dict]:
        return [json.loads(line) for line in self.results.read_text().splitlines()] if self.results.exists() else []

    def left(self, seeds: Sequence[int] = SEEDS) -> list[tuple[str, int]]:
        done = {(row["arm"], row["seed"]) for row in self.finished()}
        return [(arm, seed) for seed in seeds for arm in self.arms if (arm, seed) not in done]


def go_on(study: Study, asked: Piece) -> None:
    """One piece: runs until the time is up or all is finished, then the table."""
    until = time.monotonic() + 60 * asked.minutes
    while not asked.table and (left := study.left(asked.seeds)) and time.monotonic() < until:
        arm, seed = left[0]
        folder = _train(study, arm, seed, asked, until - time.monotonic())
        if folder:
            row = {**_record(arm, seed, folder), **study.more(folder, asked.data_dir)}
            with study.results.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)
    print(study.table(study.finished()))
    left = study.left()
    print(f"{len(left)} runs left: call again" if left else "all runs are finished")


def _train(study: Study, arm: str, seed: int, asked: Piece, seconds: float) -> Path | None:
    """The run's folder once it has finished; None where the time ran out and it was asked to stop."""
    place = asked.runs or f"runs/{study.name}"
    folder = ROOT / place / f"{arm.replace(' ', '_').replace(',', '')}-{seed}"
    command = [sys.executable, "train.py", *study.arms[arm], f"--workdir={folder}", f"--seed={seed}"]
    command += [f"--data_dir={asked.data_dir}"] if asked.data_dir else []
    with subprocess.Popen(command, cwd=ROOT) as process:
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)  # saves; the next piece continues
            process.wait()
            return None
    if status:
        raise SystemExit(status)
    return folder


def _record(arm: str, seed: int, folder: Path) -> dict:
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
    """Mean and standard deviation."""
    around = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{around}"
