"""Content of `evaluation_<split>.json` except for segmentation: metrics of all branches and of their ensemble."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from dico_tf.errors import UserError
from dico_tf.evaluation import diversity, metrics
from dico_tf.evaluation.averaging import checked_logits, combine
from dico_tf.files.json_files import FORMAT
from dico_tf.formulas.averages import AVERAGES

SELECTS = ("validation", "test")
WEIGHTS = ("raw", "ema")


def evaluate(
    logits: ArrayLike,
    labels: ArrayLike,
    average: str,
    split: str,
    select: str,
    weights: str,
    class_names: Sequence[str],
) -> dict[str, Any]:
    """Return the content of evaluation_<split>.json: metrics of all branches and the ensemble; None if undefined.

    Args:
        logits: [N, S, C] of the branches.
        labels: [N].
        average: key of AVERAGES, the rule that makes the ensemble.
        split: name of the evaluated split.
        select: split that chose the epoch, validation or test.
        weights: raw, or ema = moving average of the weights.
        class_names: C names.
    """
    with np.errstate(over="ignore"):  # overflow gives infinity, which is refused below
        logits = checked_logits(logits, "NSC").astype(np.float32)  # as in the predictions file
    AVERAGES[average]
    checked_run(select, weights)
    if len(class_names) != logits.shape[2]:
        raise UserError(f"expected {logits.shape[2]} class names, as many as the logits have, got {len(class_names)}")
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
        "gain": diversity.gain(logits, ensemble, labels),
        "per_class": metrics.per_class_accuracy(ensemble, labels),
        "confusion": metrics.confusion(ensemble, labels).tolist(),
        "class_names": [str(name) for name in class_names],
    }


def checked_run(select: str, weights: str) -> None:
    """Raise UserError unless `select` is validation or test, and `weights` is raw or ema."""
    _check("select", select, SELECTS)
    _check("weights", weights, WEIGHTS)


def _check(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UserError(f"{name}: expected one of {', '.join(choices)}, got {value!r}")
