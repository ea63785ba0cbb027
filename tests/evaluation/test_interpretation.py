"""The sentence under a run's table: the most important one, and none that the numbers cannot carry."""

import json
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest

from dico_tf.evaluation import diversity
from dico_tf.evaluation.averaging import combine
from dico_tf.evaluation.interpretation import independent_disagreement, interpret
from dico_tf.evaluation.report import evaluate

ROOT = Path(__file__).parents[2]
CLASSES = 10
SUMMARY = {
    "splits": 2,
    "params": {"whole": 1000, "branches": 1010},
    "macs": {"whole": 2000, "branches": 1990},
}
LOSS = {"text": "branches of 0.30 M parameters: 1 of 3", "source": "a paper", "favours": "whole"}


def run(*branches: np.ndarray, confidence: tuple = (), **changes) -> dict:
    """The evaluation of branches, each the classes that it answers; all images are of class 0."""
    confidence = confidence or (1.0,) * len(branches)
    one_hot = [c * np.eye(CLASSES)[b] for b, c in zip(branches, confidence, strict=True)]
    logits, labels = np.stack(one_hot, 1), np.zeros(len(branches[0]), int)
    names = [str(c) for c in range(CLASSES)]
    return {**evaluate(logits, labels, "logits", "test", "validation", "raw", names), **changes}


def answers(number: int, wrong: dict[tuple[int, int], int]) -> np.ndarray:
    """Class 0 for all images but those from a start to a stop, which get the class beside them."""
    result = np.zeros(number, int)
    for part, value in wrong.items():
        result[slice(*part)] = value
    return result


FIRST = answers(1000, {(0, 200): 1})  # wrong on images 0-199
SECOND = answers(1000, {(150, 350): 2})  # and on 150-349
THIRD = answers(1000, {(300, 500): 3})


def test_a_clear_gain_over_the_mean_branch_is_said_with_its_error():
    evaluation = run(FIRST, SECOND, THIRD)
    gain = evaluation["gain"]["mean_branch"]
    assert gain["difference"] == pytest.approx(evaluation["ensemble"]["top1"] - 0.8) and gain["difference"] > 0.1
    (sentence,) = interpret({**SUMMARY, "splits": 3}, evaluation)
    match = re.fullmatch(
        r"the ensemble gains (.+) points over its mean branch \(plus or minus (.+), on 1,000 test images\)", sentence
    )
    assert float(match[1]) == pytest.approx(100 * gain["difference"], abs=5e-3)
    assert float(match[2]) == pytest.approx(200 * gain["standard_error"], rel=0.05)


def test_the_standard_error_is_that_of_a_paired_difference():
    draw = np.random.default_rng(3)
    logits, labels = draw.normal(size=(200, 3, 4)), draw.integers(0, 4, 200)
    ensemble = combine(logits, "probs")
    right = logits.argmax(2) == labels[:, None]
    together = ensemble.argmax(1) == labels
    best = right[:, right.mean(0).argmax()]
    gain = diversity.gain(logits, ensemble, labels)
    only, never = (together & ~best).mean(), (~together & best).mean()
    assert gain["best_branch"]["difference"] == pytest.approx(only - never)
    expected = np.sqrt((only + never - (only - never) ** 2) / 200)
    assert gain["best_branch"]["standard_error"] == pytest.approx(expected)
    assert gain["mean_branch"]["difference"] == pytest.approx(together.mean() - right.mean())


def test_one_branch_gains_nothing_and_gets_no_sentence():
    evaluation = run(FIRST)
    assert evaluation["gain"]["mean_branch"] == {"difference": 0.0, "standard_error": 0.0}
    assert interpret({**SUMMARY, "splits": 1}, evaluation) == []


def test_a_difference_within_two_errors_is_no_clear_one():
    evaluation = run(answers(100, {(0, 20): 1, (98, 100): 3}), answers(100, {(0, 20): 1}))
    (sentence,) = interpret(SUMMARY, evaluation)
    assert sentence.startswith(
        "no clear difference between the ensemble and its mean branch: +1.00 points, and chance "
    )
    assert sentence.endswith(" on 100 test images")


def test_a_handful_of_images_shows_no_gain_though_all_of_them_gain_alike():
    evaluation = run(answers(4, {}), answers(4, {(0, 4): 1}))
    assert evaluation["gain"]["mean_branch"] == {"difference": 0.5, "standard_error": 0.0}
    assert interpret(SUMMARY, evaluation)[0].startswith("no clear difference")


def test_an_ensemble_clearly_below_its_best_branch_comes_first():
    weak = answers(1000, {(0, 600): 1})
    evaluation = run(FIRST, weak, confidence=(1.0, 2.0))  # the weak branch is the surer one
    (sentence,) = interpret({**SUMMARY, "params": {"whole": 10, "branches": 30}, "advice": LOSS}, evaluation)
    assert sentence.startswith("the ensemble is 40.00 points below branch_0, more than chance explains on 1,000 test ")


def test_an_ensemble_below_its_best_branch_by_chance_is_not_said_to_be_so():
    other = answers(1000, {(195, 200): 1, (300, 500): 2})
    evaluation = run(other, answers(1000, {(0, 208): 1}), confidence=(1.0, 2.0))
    assert evaluation["gain"]["best_branch"]["difference"] < 0
    assert "below branch" not in interpret(SUMMARY, evaluation)[0]


@pytest.mark.parametrize("measure", ["params", "macs"])
def test_a_dearer_division_is_said_to_be_so(measure):
    noun = {"params": "parameters", "macs": "multiply-adds"}[measure]
    (sentence,) = interpret({**SUMMARY, measure: {"whole": 100, "branches": 111}, "advice": LOSS}, run(FIRST, SECOND))
    assert sentence.startswith(f"the branches together are dearer than the whole (111 % of its {noun}): ")
    within = interpret({**SUMMARY, measure: {"whole": 100, "branches": 110}}, run(FIRST, SECOND))
    assert "dearer" not in within[0]


def test_branches_that_became_one_are_said_to_be():
    copy = FIRST.copy()
    copy[999] = 5
    (sentence,) = interpret({**SUMMARY, "advice": LOSS}, run(FIRST, copy))
    assert sentence.startswith(
        "the branches have become one network: they disagree on 0.1 % of the images, where indep"
    )
    assert "would give 36 %" in sentence


def test_few_errors_or_few_images_do_not_make_branches_one():
    nearly_right = answers(1000, {(0, 5): 1})
    for branches in ((nearly_right, nearly_right), (FIRST[190:230], FIRST[190:230])):
        assert "one network" not in interpret(SUMMARY, run(*branches))[0]


def test_branches_as_different_as_those_of_the_studies_are_not_one():
    assert independent_disagreement([0.8161, 0.8161], 10) == pytest.approx(0.3302, abs=1e-4)
    assert "one network" not in interpret(SUMMARY, run(FIRST, answers(1000, {(30, 230): 1})))[0]


def test_independent_branches_disagree_as_often_as_the_formula_says():
    draw = np.random.default_rng(0)
    right, wrong = draw.random((2, 200_000)), draw.integers(1, CLASSES, (2, 200_000))
    classes = np.where(right < np.array([[0.7], [0.9]]), 0, wrong)
    expected = independent_disagreement([0.7, 0.9], CLASSES)
    assert (classes[0] != classes[1]).mean() == pytest.approx(expected, abs=5e-3)


def test_published_evidence_for_the_whole_is_repeated():
    assert interpret({**SUMMARY, "advice": LOSS}, run(FIRST, SECOND)) == [
        "by published evidence, the whole would probably have been better: branches of 0.30 M parameters: 1 of 3 "
        "[a paper]"
    ]
    for favours in (None, "branches"):
        (sentence,) = interpret({**SUMMARY, "advice": {**LOSS, "favours": favours}}, run(FIRST, SECOND))
        assert "evidence" not in sentence
    assert "evidence" not in interpret({**SUMMARY, "advice": None}, run(FIRST, SECOND))[0]


def test_listed_branches_are_compared_with_their_best():
    branches = [{"name": name, "image_size": 32, "params": 5, "macs": 5} for name in ("a", "b")]
    costs = {name: {"whole": None, "branches": 10} for name in ("params", "macs")}
    (sentence,) = interpret({**SUMMARY, **costs, "branches": branches}, run(FIRST, SECOND))
    assert " its best branch" in sentence


def test_an_old_evaluation_has_a_standard_error_that_is_not_too_small():
    evaluation = run(FIRST, SECOND, THIRD)
    old = {key: value for key, value in evaluation.items() if key != "gain"}
    new_limit, old_limit = (
        float(interpret(SUMMARY, content)[0].split("minus ")[1].split(",")[0]) for content in (evaluation, old)
    )
    assert new_limit <= old_limit < 4 * new_limit


@pytest.mark.parametrize(
    ("archive", "start"),
    [
        ("dico", "no clear difference between the ensemble and its mean branch: +25.00 points, and chance explains "),
        ("video", "no clear difference between the ensemble and its mean branch: +6.25 points, and chance explains "),
        ("own", "the branches together are dearer than the whole (113 % of its multiply-adds): "),
        ("segmentation", None),
        ("cosub", None),
    ],
)
def test_files_of_the_first_version_are_interpreted(archive, start):
    with tarfile.open(ROOT / f"tests/fixtures/v0/runs/{archive}.tar.xz") as run:
        names = (f"runs/{archive}/summary.json", f"runs/{archive}/evaluation.json")
        summary, evaluation = (json.load(run.extractfile(name)) for name in names)
    sentences = interpret(summary, evaluation)
    assert [sentence.startswith(start) for sentence in sentences] == ([True] if start else [])


SCENES = {
    "task": "segmentation",
    "split": "test",
    "images": 500,
    "branches": [{"miou": 0.5, "pixel_accuracy": 0.8, "iou": []}] * 2,
    "ensemble": {"miou": 0.4, "pixel_accuracy": 0.7, "iou": []},
    "diversity": {"disagreement": 0.1},
    "class_names": ["a", "b", "c"],
}


def test_of_segmentation_only_cost_and_copies_are_judged():
    assert interpret({**SUMMARY, "advice": LOSS}, SCENES) == []
    assert "dearer" in interpret({**SUMMARY, "macs": {"whole": 1, "branches": 2}}, SCENES)[0]
    same = {**SCENES, "diversity": {"disagreement": 0.001}}
    assert "they disagree on 0.1 % of the pixels" in interpret(SUMMARY, same)[0]
    for unknown in ({"images": 0}, {"branches": [{"miou": None, "pixel_accuracy": None, "iou": []}] * 2}):
        assert interpret(SUMMARY, {**same, **unknown}) == []
