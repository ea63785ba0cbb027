"""Study of few images: one network against four branches of equal cost, trained from scratch on parts of CIFAR-10.

python -m benchmarks.study_small_data --data_dir=DIR [--minutes=8]
Runs for at most --minutes; call it again until nothing is missing. Several calls can run at once. Each finished run
appends one line to benchmarks/results/study_small_data.jsonl. --table prints the tables of the finished runs, and what
is missing.

Protocol, fixed before the runs:

* Data: six disjoint subsets of CIFAR-10's training images. A subset has 500 images, which are among its 2,500, which
  are among its 5,000. 5,000 more training images, outside of all subsets, are for validation. Every class has as many
  images. The test is CIFAR-10's, all 10,000 images. All arms use the same images. A user with 500 images would not
  have 5,000 more for validation.
* Networks: WRN-16-4 whole (2,749,786 parameters, 392.6 million multiply-adds), and its published division into four
  WRN-16-2 (2,768,488 and 404.4 million, 3.0 % more): co-trained with Jensen-Shannon agreement; trained independently;
  and as co-trained, but without agreement. Later: two branches.
* Recipe: SGD with Nesterov momentum, batches of 32, crops and flips, cosine after a warm-up of a twentieth of the
  epochs. 80 epochs of 500 images, 20 of 2,500, 12 of 5,000. The last epoch counts, in all arms and all trials.
* Trials: on subset 0, in full length, each arm and number of images has its own. The lowest NLL of the ensemble on the
  validation images counts. The arms try learning rate and weight decay; co-trained branches also agreement weight and
  agreement warm-up. Each arm has the four trials that are listed below, and a fifth that the best of the four decides:
  the best one's values with three times the weight decay if that was the largest that the arm tried, with a third of it
  if it was the smallest, and otherwise with twice the learning rate, unless that was tried. While a trial with a weight
  decay at an edge is the best, one more trial follows beyond that edge. Two branches take the values of four; branches
  without agreement take those of the co-trained. Trials with wrong labels are trials of their own.
* The chosen values are used on subsets 1 to 5. Subset 0 takes no further part.
* **Primary comparison: 2,500 images, four co-trained branches minus the whole, in top-1.**
* Interval: mean +- t(R-1) sqrt(s^2/R + v/N) with R subsets and N test images. s^2 is the variance over subsets of the
  paired difference, v its variance over test images. See `paired.py`.
* All other comparisons are exploratory: they show what is worth a study of its own.
"""

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import cifar_subsets
from benchmarks.study import Call, append, read_rows, trained
from benchmarks.subset_study import Arm, SubsetStudy, Trial, Unit, finished_row
from dico_tf import flags

NAME = "study_small_data"
SCRIPT = flags.Script(name=f"-m benchmarks.{NAME}", about=__doc__, fields=flags.of(Call))
SUBSETS = 6
EPOCHS = {500: 80, 2500: 20, 5000: 12}  # by images
RECIPE = [
    "--model=wrn_16_4", "--image_size=32", "--views=crop+flip", "--optimizer=sgd", "--batch_size=32", "--min_lr=0",
    "--keep=1",
]  # fmt: skip
TRIALS = ((0.05, 1e-3), (0.05, 3e-3), (0.05, 1e-2), (0.1, 3e-3))  # learning rate, weight decay
# ..., agreement weight, agreement warm-up as a share of the epochs
COTRAINED_TRIALS = ((0.05, 3e-3, 0.5, 0.0), (0.05, 1e-2, 0.5, 0.0), (0.05, 3e-3, 0.1, 0.0), (0.05, 3e-3, 0.1, 0.5))
STEP = 3.0  # factor between weight decays
TRIED = 5


def next_trial(ranks: Mapping[Trial, float]) -> Trial | None:
    """Return the trial that follows the finished ones of an arm, or None.

    Args:
        ranks: score of each trial, in the order of the trials; the largest is the best.
    """
    best = max(ranks, key=lambda trial: ranks[trial])
    lr, decay, *more = best
    decays = [trial[1] for trial in ranks]
    at_edge = decay in (min(decays), max(decays))
    if len(ranks) >= TRIED and not at_edge:
        return None
    if at_edge:
        decay = round(decay * STEP if decay == max(decays) else decay / STEP, 6)
    else:
        lr *= 2
    proposal = (lr, decay, *more)
    return None if proposal in ranks else proposal


def _arm(*words: str, **options) -> Arm:
    return Arm(flags=[*RECIPE, *words], extend=next_trial, **options)


WHOLE, COTRAINED, ALONE = "whole", "4 branches, co-trained", "4 branches, independent"
NO_AGREEMENT, TWO = "4 branches, co-trained without agreement", "2 branches, co-trained"
NOISY = "--label_noise=0.3"
NOISY_WHOLE, NOISY_COTRAINED = "whole, 30 % wrong labels", "4 branches, co-trained, 30 % wrong labels"
ARMS: Mapping[str, Arm] = {
    WHOLE: _arm("--splits=1", trials=TRIALS),
    COTRAINED: _arm("--splits=4", trials=COTRAINED_TRIALS),
    ALONE: _arm("--splits=4", "--training=independent", trials=TRIALS),
    NO_AGREEMENT: _arm("--splits=4", "--agreement=none", trials_of=COTRAINED),
    TWO: _arm("--splits=2", trials_of=COTRAINED),
    NOISY_WHOLE: _arm("--splits=1", NOISY, trials=TRIALS),
    NOISY_COTRAINED: _arm("--splits=4", NOISY, trials=COTRAINED_TRIALS),
}
CONFIRMED = range(1, SUBSETS)
# (arms, images, subsets), in the order of the runs: all trials of a row, then its arms on each subset in turn
PLAN = (
    ((WHOLE, COTRAINED), 2500, CONFIRMED),
    ((WHOLE, COTRAINED), 500, CONFIRMED),
    ((ALONE,), 2500, CONFIRMED),
    ((ALONE,), 500, CONFIRMED),
    ((NO_AGREEMENT,), 2500, CONFIRMED),
    ((NO_AGREEMENT,), 500, CONFIRMED),
    ((TWO,), 2500, CONFIRMED),
    ((NOISY_WHOLE, NOISY_COTRAINED), 2500, CONFIRMED),
    ((WHOLE, COTRAINED), 5000, CONFIRMED),
)
# (arm, images), (other arm, images); the first is the primary one
COMPARISONS = (
    *(
        ((one, images), (other, images))
        for images in (2500, 500)
        for one, other in (
            (COTRAINED, WHOLE),
            (ALONE, WHOLE),
            (COTRAINED, ALONE),
            (COTRAINED, NO_AGREEMENT),
            (TWO, WHOLE),
            (NOISY_COTRAINED, NOISY_WHOLE),
        )
    ),
    ((COTRAINED, 5000), (WHOLE, 5000)),
)
STUDY = SubsetStudy(name=NAME, arms=ARMS, plan=PLAN, comparisons=COMPARISONS, rank=lambda row: -row["ensemble_nll"])


def words_of(unit: Unit, rows: Sequence[Mapping], runs: Path) -> list[str]:
    """Return the flags of train.py for a unit.

    Args:
        rows: of the results file; they choose the values unless the unit is a trial.
        runs: folder of all runs.
    """
    epochs = EPOCHS[unit.images]
    lr, decay, *agreement = unit.trial or STUDY.chosen(rows, unit.arm, unit.images)
    words = [f"--lr={lr:g}", f"--weight_decay={decay:g}", f"--epochs={epochs}", f"--evaluate_every={epochs}"]
    words.append(f"--warmup_epochs={round(epochs / 20)}")
    if agreement:
        weight, warmup = agreement
        words += [f"--agreement_weight={weight:g}", f"--agreement_warmup_epochs={round(epochs * warmup)}"]
    table = cifar_subsets.table(runs / "data", unit.images, unit.subset, "trial" if unit.trial else "test")
    return [*ARMS[unit.arm].flags, *words, f"--dataset=folder:{table}", f"--seed={unit.subset}"]


def finish(unit: Unit, until: float, runs: Path) -> None:
    """Train a run and append its row; append nothing if the time runs out.

    Args:
        until: time at which it must stop, of the monotonic clock.
        runs: folder of all runs.
    """
    if trained(words_of(unit, read_rows(STUDY.results), runs), runs / unit.folder, until - time.monotonic()):
        append(STUDY.results, finished_row(unit, runs / unit.folder))
        shutil.rmtree(runs / unit.folder)


def go_on(call: Call) -> None:
    """Continue the study, and print the tables of its finished runs."""
    STUDY.go_on(call, lambda data: cifar_subsets.write(data, call.data_dir, SUBSETS), finish)


def main(arguments: list[str]) -> None:
    values, _ = flags.parse(SCRIPT, arguments)
    go_on(Call(**values))


if __name__ == "__main__":
    flags.run(main)
