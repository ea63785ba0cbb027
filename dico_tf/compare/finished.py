"""Read what finished runs left: scores, costs, right answers to test images, and the loss of trials."""

import dataclasses
import math
from pathlib import Path

import numpy as np

from dico_tf.errors import UserError
from dico_tf.evaluation.averaging import combine
from dico_tf.files import tables
from dico_tf.files.json_files import read_of_run

LOG = "train.log"
TAIL = 8  # lines of a log that are shown
_DIVERGED = "is not finite at step"  # in the message of a training whose loss diverged


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class FinishedRun:
    """Results of a finished run that a comparison uses."""

    scores: dict[str, float]  # of the ensemble on test images; and the branches' disagreement
    right: np.ndarray  # bool [N], whether the ensemble's answer to each test image is right
    ids: np.ndarray  # str [N], the test images
    params: int
    macs: int
    seconds: float  # of training
    class_names: tuple[str, ...]
    versions: dict[str, str]


def is_finished(folder: Path) -> bool:
    """Return True if a run is trained and evaluated."""
    if not (folder / "summary.json").exists():
        return False
    summary = read_of_run(folder / "summary.json")
    return summary["status"] == "finished" and "split" in (summary["final"] or {})


def read(folder: Path) -> FinishedRun:
    """Load a finished run. Raises UserError if it has no test images, or if its files are damaged."""
    if not (folder / "evaluation_test.json").exists():
        raise UserError(
            f"{folder} has no test images, on which arms are compared: give a --dataset with a test split, or a folder "
            "with test/"
        )
    evaluation, summary = (read_of_run(folder / name) for name in ("evaluation_test.json", "summary.json"))
    record = read_of_run(folder / "config.json")
    predictions = tables.read_predictions(folder / "predictions_test.npz")
    answers = combine(predictions.logits, record["config"]["average"]).argmax(1)
    return FinishedRun(
        scores={**evaluation["ensemble"], "disagreement": evaluation["diversity"]["disagreement"]},
        right=answers == predictions.labels,
        ids=predictions.ids,
        params=summary["params"]["branches"],
        macs=summary["macs"]["branches"],
        seconds=summary["seconds"],
        class_names=tuple(record["data"]["class_names"]),
        versions=record["versions"],
    )


def validation_nll(folder: Path) -> float:
    """Return the ensemble's NLL of a finished trial on its validation images; infinity if the trial has diverged.

    Raises UserError if it has no validation images.
    """
    if has_diverged(folder):
        return math.inf
    if not (folder / "evaluation_validation.json").exists():
        raise UserError(f"{folder} has no validation images, by which --tune chooses: give --validation above 0")
    return read_of_run(folder / "evaluation_validation.json")["ensemble"]["nll"]


def has_diverged(folder: Path) -> bool:
    """Return True if a training ended because its loss was not finite."""
    path = folder / "summary.json"
    return (
        path.exists()
        and read_of_run(path)["status"] == "failed"
        and any(_DIVERGED in line for line in last_lines(folder / LOG))
    )


def last_lines(log: Path) -> list[str]:
    """Return the last lines of a log that have text; [] if it does not exist."""
    if not log.exists():
        return []
    lines = log.read_text(encoding="utf-8", errors="replace").replace("\r", "\n").splitlines()
    return [line for line in lines if line.strip()][-TAIL:]
