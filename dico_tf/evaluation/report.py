"""Content of `evaluation_<split>.json`: the metrics of all branches and of their ensemble."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from dico_tf.errors import UserError
from dico_tf.evaluation import diversity, metrics
from dico_tf.evaluation.averaging import checked_logits, combine
from dico_tf.formulas.averages import AVERAGES

FORMAT = 1
SELECTS = ("validation", "test")
WEIGHTS = ("raw", "ema")


def evaluate(
    logits: ArrayLike,  # [N, S, C]
    labels: ArrayLike,  # [N]
    average: str,
    split: str,
    select: str,
    weights: str,
    class_names: Sequence[str],
) -> dict[str, Any]:
    """Return the metrics of every branch and of the ensemble as plain JSON values; None for undefined ones."""
    with np.errstate(over="ignore"):  # overflow gives infinity, which is refused below
        logits = checked_logits(logits, "NSC").astype(np.float32)  # as in the predictions file
    AVERAGES[average]
    checked_run(select, weights)
    if len(class_names) != logits.shape[2]:
        raise UserError(f"{len(class_names)} class names for logits of {logits.shape[2]} classes")
    ensembles = {name: combine(logits, name) for name in AVERAGES}
    ensemble = ensembles[average]
    return {
        "format": FORMAT,
        "split": split,
        "select": select,
        "weights": weights,
        "branches": [metrics.scores(logits[:, branch], labels) for branch in range(logits.shape[1])],
        "ensemble": metrics.scores(ensemble, labels),
        "average": average,
        "averages": {name: metrics.top_k(combined, labels, 1) for name, combined in ensembles.items()},
        "diversity": diversity.measure(logits, labels, average),
        "per_class": metrics.per_class_accuracy(ensemble, labels),
        "confusion": metrics.confusion(ensemble, labels).tolist(),
        "class_names": [str(name) for name in class_names],
    }


def checked_run(select: str, weights: str) -> None:
    """Raise UserError unless `select` (split that chose the epoch) and `weights` are known values."""
    _check("select", select, SELECTS)
    _check("weights", weights, WEIGHTS)


def _check(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UserError(f"{name}: expected one of {', '.join(choices)}, got {value!r}")
