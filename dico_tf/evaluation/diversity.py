"""Diversity of the branches, and what their ensemble gains by it, from logits [N, S, C]."""

import itertools

import numpy as np
from numpy.typing import ArrayLike

from dico_tf.evaluation.averaging import blocks, checked_logits, log_sum_exp, softmax
from dico_tf.evaluation.metrics import checked_labels
from dico_tf.formulas.averages import AVERAGES

AMBIGUITY_SCORES = {"logits": "nll", "probs": "brier"}  # average -> score that its ambiguity explains


def disagreement(logits: ArrayLike) -> float:
    """Return the mean over pairs of branches of the share of images they classify differently; 0 for one branch."""
    classes = checked_logits(logits, "NSC").argmax(2)  # [N, S]
    shares = [(classes[:, a] != classes[:, b]).mean() for a, b in _pairs(classes)]
    return float(np.mean(shares)) if shares else 0.0


def q_statistic(logits: ArrayLike, labels: ArrayLike) -> float | None:
    """Return Yule's Q, averaged over pairs of branches: (N11 N00 - N10 N01) / (N11 N00 + N10 N01).

    N11, N00, N10 and N01 count the images on which both branches, neither, only the first or only the second is right.
    Pairs whose denominator is 0 are left out; None if none is left.

    Args:
        logits: [N, S, C] of N images and S branches.
        labels: class numbers [N].
    """
    logits = checked_logits(logits, "NSC")
    right = logits.argmax(2) == checked_labels(labels, len(logits), logits.shape[2])[:, None]  # [N, S]
    values = [_yule(right[:, a], right[:, b]) for a, b in _pairs(right)]
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None


def ambiguity(logits: ArrayLike, average: str = "logits") -> float | None:
    """Return the branches' mean score minus the ensemble's score, computed without labels; never negative.

    logits: NLL,   mean_n [mean_s log sum exp z_s - log sum exp mean_s z_s]
    probs:  Brier, mean_n mean_s ||p_s - mean_s p_s||^2
    other averages: None, there is no such formula
    """
    logits = checked_logits(logits, "NSC")
    AVERAGES[average]
    if average not in AMBIGUITY_SCORES:
        return None
    of_images = _nll_ambiguity if average == "logits" else _brier_ambiguity
    total = sum(of_images(block).sum() for _, block in blocks(logits))
    return max(float(total) / len(logits), 0.0)  # equal branches: rounding may leave -1e-16


def measure(logits: ArrayLike, labels: ArrayLike, average: str = "logits") -> dict[str, float | str | None]:
    """Return disagreement, q_statistic, ambiguity and ambiguity_score, of logits [N, S, C].

    ambiguity_score is the score that ambiguity refers to: "nll" if `average` is logits, "brier" if it is probs. For
    other averages, both are None.
    """
    return {
        "disagreement": disagreement(logits),
        "q_statistic": q_statistic(logits, labels),
        "ambiguity": ambiguity(logits, average),
        "ambiguity_score": AMBIGUITY_SCORES.get(average),
    }


def gain(logits: ArrayLike, ensemble: ArrayLike, labels: ArrayLike) -> dict[str, dict[str, float]]:
    """Return top-1 accuracy of the ensemble less that of its mean branch, and of its best branch, with standard errors.

    {"mean_branch": {"difference", "standard_error"}, "best_branch": ...}, all shares; 0 for one branch. The standard
    error is that of the paired difference over the same N images: std_n(d_n) / sqrt N, d_n = ensemble right - branch
    right.

    Args:
        logits: [N, S, C] of the branches.
        ensemble: [N, C], their average.
        labels: class numbers [N].
    """
    logits, ensemble = checked_logits(logits, "NSC"), checked_logits(ensemble, "NC")
    labels = checked_labels(labels, len(logits), logits.shape[2])
    right = (logits.argmax(2) == labels[:, None]).astype(np.float64)  # [N, S]
    branches = {"mean_branch": right.mean(1), "best_branch": right[:, right.mean(0).argmax()]}
    differences = {name: (ensemble.argmax(1) == labels) - branch for name, branch in branches.items()}
    return {
        name: {"difference": float(d.mean()), "standard_error": float(d.std() / np.sqrt(len(d)))}
        for name, d in differences.items()
    }


def _pairs(columns: np.ndarray) -> itertools.combinations:
    return itertools.combinations(range(columns.shape[1]), 2)


def _yule(a: np.ndarray, b: np.ndarray) -> float | None:
    same = int((a & b).sum()) * int((~a & ~b).sum())
    different = int((a & ~b).sum()) * int((~a & b).sum())
    return (same - different) / (same + different) if same + different else None


def _nll_ambiguity(logits: np.ndarray) -> np.ndarray:
    return log_sum_exp(logits).mean(1) - log_sum_exp(logits.mean(1))  # [N]


def _brier_ambiguity(logits: np.ndarray) -> np.ndarray:
    probabilities = softmax(logits)
    return np.square(probabilities - probabilities.mean(1, keepdims=True)).sum(2).mean(1)  # [N]
