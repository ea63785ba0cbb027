"""Study of configs/cifar10_cpu.flags on two cores: whole, divided, without agreement, and with the same views.

python -m benchmarks.study_cifar10 --data_dir=DIR [--minutes=8]
Runs for at most --minutes; call it again until it prints that all runs are finished. Each finished run appends one line
to benchmarks/results/study_cifar10.jsonl. python -m benchmarks.study_cifar10 --table prints the mean and standard
deviation of the finished runs.
"""

import statistics

from benchmarks.study import Piece, Study, go_on, spread
from dico_tf import flags

RECIPE = "--flagfile=configs/cifar10_cpu.flags"
ARMS = {
    "whole": [RECIPE, "--splits=1"],
    "divided in 2": [RECIPE, "--splits=2"],
    "divided in 2, no agreement": [RECIPE, "--splits=2", "--agreement=none"],
    "divided in 2, same views": [RECIPE, "--splits=2", "--same_views"],
}
SCRIPT = flags.Script(name="-m benchmarks.study_cifar10", about=__doc__, fields=flags.of(Piece))


def table(finished: list[dict]) -> str:
    """Return a Markdown table of means and standard deviations over the seeds."""
    lines = [
        "| network | runs | parameters | multiply-adds | branch top-1 % | ensemble top-1 % | NLL | disagreement % |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for arm in ARMS:
        rows = [row for row in finished if row["arm"] == arm]
        if not rows:
            continue
        branch = [100 * statistics.mean(row["branches_top1"]) for row in rows]
        cells = [spread(branch), spread([100 * row["ensemble_top1"] for row in rows])]
        cells += [spread([row["ensemble_nll"] for row in rows], 3)]
        cells += [spread([100 * row["disagreement"] for row in rows])]
        cost = f"{rows[0]['params']:,} | {rows[0]['macs'] / 1e6:.0f} M"
        lines.append(f"| {arm} | {len(rows)} | {cost} | {' | '.join(cells)} |")
    return "\n".join(lines)


STUDY = Study(name="study_cifar10", arms=ARMS, table=table)


def main(arguments: list[str]) -> None:
    values, _ = flags.parse(SCRIPT, arguments)
    go_on(STUDY, Piece(**values))


if __name__ == "__main__":
    flags.run(main)
