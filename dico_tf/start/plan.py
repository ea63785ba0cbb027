"""A plan: the commands that lead from a folder of images to an export, and how long they take."""

import dataclasses
import math
import shlex
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dico_tf import invocation
from dico_tf.data.folder import TEST_SHARE
from dico_tf.data.image_decoding import cores
from dico_tf.start.folder_report import FolderReport
from dico_tf.start.networks import PlannedBranches

VIEWS = "resized_crop:0.35+flip"  # of networks trained from scratch
VALIDATION_SHARE = 0.1
FEW_TO_SELECT = 500  # validation images; fewer would choose an epoch by chance, so that the last one is used
BATCH = 32
PASSES = {True: (2_000, 5, 20), False: (60_000, 20, 200)}  # pretrained -> images to show, fewest and most epochs
FINETUNE = ("--flagfile=branches_lite",)  # a recipe in configs/
SCRATCH = ("--optimizer=sgd", "--lr=0.05", "--schedule=cosine", "--min_lr=0", f"--views={VIEWS}")
# A training step costs three passes, at this share of a matrix product's speed, as measured for EfficientNet-Lites.
STEP_COST, TRAINING_SPEED = 3, 0.22
FIXED_SECONDS = 180  # to start TensorFlow, trace the networks and convert them


@dataclasses.dataclass(frozen=True)
class Step:
    """A command of the plan, such as Step("committee", ("search", "--workdir=W"))."""

    command: str
    arguments: tuple[str, ...]

    @property
    def text(self) -> str:
        """The command as a user types it."""
        return f"{invocation.command(self.command)} {shlex.join(self.arguments)}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class CommandPlan:
    """Commands to run in this order, and the command that serves their result."""

    steps: tuple[Step, ...]
    serve: Step

    def commands(self) -> Iterator[str]:
        """Yield the commands as a user types them, `serve` included."""
        yield from (step.text for step in (*self.steps, self.serve))


def make(report: FolderReport, branches: PlannedBranches, out: Path) -> CommandPlan:
    """Return the plan for a folder of images and the branches; the commands write into folders of `out`."""
    run, committee, export = (str(out / name) for name in ("run", "committee", "export"))
    train = [*(FINETUNE if branches.pretrained else SCRATCH), f"--dataset=folder:{report.folder}", *branches.flags]
    train += [f"--epochs={epochs(report, branches)}", f"--batch_size={_batch(report)}", f"--workdir={run}"]
    train += [f"--evaluate_every={epochs(report, branches)}"] * (validation_images(report) < FEW_TO_SELECT)
    train += ["--skip_unreadable"] * bool(report.unreadable) + ["--skip_duplicates"] * bool(report.copies)
    train += ["--class_weights=balanced"] * report.unbalanced
    steps = [
        Step("train", tuple(train)),
        *(Step("evaluate", (f"--workdir={run}", f"--split={split}")) for split in ("validation", "test")),
        Step("committee", ("search", f"--workdir={run}", f"--out={committee}")),
        Step(
            "export",
            (
                f"--workdir={run}",
                f"--committee={committee}/committee.json",
                "--formats=tflite",
                "--quantise=int8",
                f"--out={export}",
            ),
        ),
    ]
    return CommandPlan(steps=tuple(steps), serve=Step("serve", ("local", f"--manifest={export}/manifest.json")))


def training_images(report: FolderReport) -> int:
    """Return the number of images that training sees, without those that are drawn for test and validation."""
    return _without_test(report) - (0 if "val" in report.parts else validation_images(report))


def validation_images(report: FolderReport) -> int:
    """Return the number of validation images, those that are drawn included."""
    if "val" in report.parts:
        return sum(report.parts["val"].values())
    return int(VALIDATION_SHARE * _without_test(report))


def _without_test(report: FolderReport) -> int:
    count = sum(report.training.values())
    return count - (0 if "test" in report.parts else round(TEST_SHARE * count))


def epochs(report: FolderReport, branches: PlannedBranches) -> int:
    """Return the number of epochs: more for fewer images, and for networks that start from scratch."""
    views, fewest, most = PASSES[branches.pretrained]
    return min(max(math.ceil(views / training_images(report)), fewest), most)


def _batch(report: FolderReport) -> int:
    """Return the largest power of two from 2 to 32 that is at most a quarter of the training images, else 2."""
    return min(BATCH, 2 ** int(math.log2(max(training_images(report) // 4, 2))))


def seconds(report: FolderReport, branches: PlannedBranches) -> float:
    """Return an estimate of the seconds that the plan takes on this machine."""
    passes = training_images(report) * epochs(report, branches)
    return FIXED_SECONDS + passes * STEP_COST * branches.macs / (TRAINING_SPEED * speed())


def speed() -> float:
    """Return an estimate of the multiply-adds per second of matrix products on all cores.

    It is the rate of one core, from the CPU time of a few products, times the number of cores.
    """
    side, repeats = 512, 8
    left = np.random.default_rng(0).random((side, side), np.float32)
    start = time.process_time()  # of all threads, so that other programs on the machine disturb little
    for _ in range(repeats):
        left @ left
    return cores() * repeats * side**3 / (time.process_time() - start)
