"""One sentence that interprets the table of a finished run: the most important that its numbers can carry."""

import itertools
import math
from statistics import NormalDist
from typing import Any

from dico_tf.divide.budget import OFF_TARGET
from dico_tf.evaluation.cost import branch_costs

COLLAPSED = 0.1  # share of the disagreement of independent branches below which branches count as one
TWO_ERRORS = 2.0  # standard errors within which a difference is not clear

Content = dict[str, Any]  # of summary.json, or of evaluation_<split>.json


def interpret(summary: Content, evaluation: Content) -> list[str]:
    """Return the first sentence of RULES that applies, in a list; [] for one branch, or if none applies.

    Args:
        summary: content of summary.json, of this or an earlier version.
        evaluation: content of evaluation_<split>.json, of this or an earlier version.
    """
    if len(evaluation["branches"]) < 2:
        return []
    rules = RULES_OF_SEGMENTATION if evaluation.get("task") == "segmentation" else RULES
    return next(([sentence] for rule in rules if (sentence := rule(summary, evaluation))), [])


def _below_best_branch(summary: Content, evaluation: Content) -> str | None:
    """Return a sentence if the ensemble is clearly less accurate than its best branch.

    The best of S branches looks good by chance, too. So the difference must be beyond what the probability of two
    standard errors, divided by S, allows.
    """
    tops = [branch["top1"] for branch in evaluation["branches"]]
    difference, error = _gain(evaluation, "best_branch")
    limit = NormalDist().inv_cdf(1 - (1 - NormalDist().cdf(TWO_ERRORS)) / len(tops)) * error
    if difference >= -limit:
        return None
    best = tops.index(max(tops))
    return (
        f"the ensemble is {_points(-difference)} points below branch_{best}, more than chance explains on "
        f"{_images(evaluation)} (up to {_points(limit)}): use branch_{best} alone, or try another --average"
    )


def _dearer(summary: Content, evaluation: Content) -> str | None:
    """Return a sentence if the branches together cost more than the whole by over 10 %, in either measure."""
    shares = {
        noun: summary[measure]["branches"] / summary[measure]["whole"]
        for measure, noun in (("params", "parameters"), ("macs", "multiply-adds"))
        if summary[measure]["whole"]
    }
    dearer = [f"{100 * share:.0f} % of its {noun}" for noun, share in shares.items() if share > 1 + OFF_TARGET]
    if not dearer:
        return None
    return (
        f"the branches together are dearer than the whole ({' and '.join(dearer)}): a better score than the whole's "
        "may come from the cost alone"
    )


def independent_disagreement(accuracies: list[float], classes: int) -> float:
    """Return the share of images on which two branches of these accuracies would differ with independent errors.

    The mean over pairs of 1 - [a b + (1 - a) (1 - b) / (C - 1)]: both are right, or both choose the same wrong class,
    where each of the C - 1 wrong ones is as likely.
    """
    pairs = itertools.combinations(accuracies, 2)
    shares = [1 - a * b - (1 - a) * (1 - b) / (classes - 1) for a, b in pairs]
    return sum(shares) / len(shares)


def _one_network(summary: Content, evaluation: Content) -> str | None:
    """Return a sentence if the branches disagree so seldom that they are one network several times.

    Branches trained from their own random weights disagree on 0.23 to 0.40 of what independent errors would give
    (benchmarks/results). A tenth is less than half of the least of these. Independent errors give at most 2 e for
    branches that err on a share e of the images; with a tenth of that, two branches can correct about 0.1 e at best.
    Few images prove nothing: for k disagreements, the upper end of their interval, k + 1 + 2 sqrt(k + 1), must be
    below the limit.
    """
    segmentation = evaluation.get("task") == "segmentation"
    accuracies = [branch["pixel_accuracy" if segmentation else "top1"] for branch in evaluation["branches"]]
    number, classes = _number_of_images(evaluation), len(evaluation["class_names"])
    if None in accuracies or not number or classes < 2:
        return None
    disagreement = evaluation["diversity"]["disagreement"]
    expected = independent_disagreement(accuracies, classes)
    count = disagreement * number
    if count + 1 + TWO_ERRORS * math.sqrt(count + 1) >= COLLAPSED * expected * number:
        return None
    what = "pixels" if segmentation else "images"
    return (
        f"the branches have become one network: they disagree on {100 * disagreement:.2g} % of the {what}, where "
        f"independent errors would give {100 * expected:.2g} %; try other --views for each branch, a smaller "
        "--agreement_weight, or other initial weights"
    )


def _whole_favoured(summary: Content, evaluation: Content) -> str | None:
    """Return a sentence if most published divisions like this one were worse than the whole."""
    advice = summary.get("advice") or {}
    if advice.get("favours") != "whole":
        return None
    return f"by published evidence, the whole would probably have been better: {advice['text']} [{advice['source']}]"


def _gained(summary: Content, evaluation: Content) -> str:
    """Return how much more accurate the ensemble is than its mean branch; for unlike networks, than its best branch."""
    unlike = any("name" in cost for cost in branch_costs(summary))
    difference, error = _gain(evaluation, "best_branch" if unlike else "mean_branch")
    branch, limit = "best branch" if unlike else "mean branch", TWO_ERRORS * error
    if abs(difference) <= limit:
        return (
            f"no clear difference between the ensemble and its {branch}: {100 * difference:+.2f} points, and chance "
            f"explains up to {_points(limit)} on {_images(evaluation)}"
        )
    change = f"gains {_points(difference)} points over" if difference > 0 else f"is {_points(-difference)} points below"
    return f"the ensemble {change} its {branch} (plus or minus {_points(limit)}, on {_images(evaluation)})"


RULES = (_below_best_branch, _dearer, _one_network, _whole_favoured, _gained)  # the most important first
RULES_OF_SEGMENTATION = (_dearer, _one_network)  # pixels of an image are no independent samples


def _gain(evaluation: Content, branch: str) -> tuple[float, float]:
    """Return the ensemble's accuracy less that of "mean_branch" or "best_branch", and a cautious standard error.

    It is that of the paired difference with two more images, a gain and a loss. So a handful of images is never clear.
    """
    difference, error = _paired_difference(evaluation, branch)
    number = _number_of_images(evaluation)
    squares = number * (number * error**2 + difference**2) + 2
    mean = number * difference / (number + 2)
    return difference, math.sqrt((squares / (number + 2) - mean**2) / (number + 2))


def _paired_difference(evaluation: Content, branch: str) -> tuple[float, float]:
    """Return difference and standard error as the evaluation has them.

    Evaluations of earlier versions do not have the standard error; they get the largest that it can be. The ensemble
    differs from a branch only on images on which the branches are not of one answer, and these are at most S / 2 times
    the mean disagreement of two branches.
    """
    if "gain" in evaluation:
        values = evaluation["gain"][branch]
        return values["difference"], values["standard_error"]
    tops = [one["top1"] for one in evaluation["branches"]]
    reference = max(tops) if branch == "best_branch" else sum(tops) / len(tops)
    not_of_one_answer = min(1.0, evaluation["diversity"]["disagreement"] * len(tops) / 2)
    difference = evaluation["ensemble"]["top1"] - reference
    return difference, math.sqrt(not_of_one_answer / _number_of_images(evaluation))


def _number_of_images(evaluation: Content) -> int:
    """Return the number of evaluated images or videos; 0 if it is unknown, as in old evaluations of segmentation."""
    if evaluation.get("task") == "segmentation":
        return evaluation.get("images", 0)
    return sum(map(sum, evaluation["confusion"]))


def _images(evaluation: Content) -> str:
    """Return the number and kind of the evaluated images, e.g. "10,000 test images"."""
    noun = "videos" if "views" in evaluation else "images"
    return f"{_number_of_images(evaluation):,} {evaluation['split']} {noun}"


def _points(share: float) -> str:
    return f"{100 * share:.2f}"
