"""Does dividing pay on two cores? The network of configs/cifar10_cpu.flags whole, divided, and without each ingredient.

python -m benchmarks.study_cifar10 --data_dir=DIR [--minutes=8]
Runs one piece of at most --minutes and stops; call it again until it says that all runs are finished. Each finished
run appends one line to benchmarks/results/study_cifar10.jsonl. python -m benchmarks.study_cifar10 --table prints
mean and spread of what is there.
"""

import dataclasses
import json
import signal
import statistics
import subprocess
import sys
from pathlib import Path

from dico_tf import flags
from dico_tf.config import FORMAT, option

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "study_cifar10.jsonl"
RECIPE = "configs/cifar10_cpu.flags"
SEEDS = (0, 1, 2)
ARMS = {
    "whole": ["--splits=1"],
    "divided in 2": ["--splits=2"],
    "divided in 2, no agreement": ["--splits=2", "--agreement=none"],
    "divided in 2, same views": ["--splits=2", "--same_views"],
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    data_dir: str = option("", "folder that holds prepared CIFAR-10 (default: TFDS's own)")
    runs: str = option("runs/study_cifar10", "folder of the runs")
    minutes: float = option(8.0, "length of this piece")
    table: bool = option(False, "print the table of what is finished")


SCRIPT = flags.Script(name="-m benchmarks.study_cifar10", about=__doc__, fields=flags.of(Study))


def finished() -> list[dict]:
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def open_runs() -> list[tuple[str, int]]:
    done = {(row["arm"], row["seed"]) for row in finished()}
    return [(arm, seed) for seed in SEEDS for arm in ARMS if (arm, seed) not in done]


def train(arm: str, seed: int, asked: Study, seconds: float) -> Path | None:
    """The run's folder once it has finished; None where the time ran out and it was asked to stop."""
    folder = ROOT / asked.runs / f"{arm.replace(' ', '_').replace(',', '')}-{seed}"
    command = [sys.executable, "train.py", f"--flagfile={RECIPE}", f"--workdir={folder}", f"--seed={seed}", *ARMS[arm]]
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


def record(arm: str, seed: int, folder: Path) -> dict:
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


def table() -> str:
    """Markdown: mean and standard deviation over the seeds."""
    lines = [
        "| network | runs | parameters | multiply-adds | branch top-1 % | ensemble top-1 % | NLL | disagreement % |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for arm in ARMS:
        rows = [row for row in finished() if row["arm"] == arm]
        if not rows:
            continue
        branch = [100 * statistics.mean(row["branches_top1"]) for row in rows]
        cells = [_spread(branch), _spread([100 * row["ensemble_top1"] for row in rows])]
        cells += [_spread([row["ensemble_nll"] for row in rows], 3)]
        cells += [_spread([100 * row["disagreement"] for row in rows])]
        cost = f"{rows[0]['params']:,} | {rows[0]['macs'] / 1e6:.0f} M"
        lines.append(f"| {arm} | {len(rows)} | {cost} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _spread(values: list[float], digits: int = 2) -> str:
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{spread}"


def main(arguments: list[str]) -> None:
    import time

    values, _ = flags.parse(SCRIPT, arguments)
    asked = Study(**values)
    until = time.monotonic() + 60 * asked.minutes
    while not asked.table and open_runs() and time.monotonic() < until:
        arm, seed = open_runs()[0]
        folder = train(arm, seed, asked, until - time.monotonic())
        if folder:
            row = record(arm, seed, folder)
            with RESULTS.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)
    print(table())
    left = len(open_runs())
    print(f"{left} runs left: call again" if left else "all runs are finished")


if __name__ == "__main__":
    flags.run(main)
