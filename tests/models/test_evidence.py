"""Advice from published divisions: which cases a division is compared with, and what is said about it."""

import dataclasses
import json
from pathlib import Path

import pytest

from dico_tf.data import digits, known_datasets
from dico_tf.models import evidence
from dico_tf.models.evidence import CASES, Case, Division, advise, near
from dico_tf.models.presets import PRESETS
from dico_tf.models.published_results import ROWS

ROOT = Path(__file__).parents[2]
GOLDENS = json.loads((ROOT / "tests/goldens/divisions.json").read_text())["divisions"]
PARAMS = {(g["model"], g["dataset"], g["splits"]): g["params"] for g in GOLDENS}


def division(params: float, **changes) -> Division:
    """A WRN without a case of its own, on CIFAR-100."""
    values = {
        "model": "wrn_16_4",
        "family": "wrn",
        "task": "classification",
        "splits": 2,
        "published": True,
        "branch_params": round(1e6 * params),
        "dataset": "cifar100",
        "image_size": 32,
        "training_images": 45_000,
    }
    return Division(**{**values, **changes})


def published(model: str, dataset: str, splits: int) -> Division:
    """A division that has a case."""
    case = next(c for c in CASES if (c.model, c.dataset, c.splits) == (model, dataset, splits))
    size, images = known_datasets.KNOWN[dataset][0], known_datasets.TRAINING_IMAGES[dataset]
    values = {"model": model, "dataset": dataset, "splits": splits, "image_size": size, "training_images": images}
    return division(case.params, **values)


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.dataset}-{c.model}-{c.splits}-{c.epochs}")
def test_a_case_has_the_published_gain_and_the_counted_parameters(case):
    error = {
        r.splits: r.error for r in ROWS if (r.dataset, r.model, r.epochs) == (case.dataset, case.model, case.epochs)
    }
    assert case.gain == pytest.approx(error[1] - error[case.splits])
    dataset = "cifar100" if case.dataset == "cifar10" else case.dataset  # 90 classes more in the last layer
    counted = PARAMS[case.model, dataset, case.splits] / 1e6
    assert case.params == pytest.approx(counted, rel=2e-2 if case.dataset == "cifar10" else 5e-4)
    assert PRESETS[case.model].family_name in evidence.FAMILIES


def test_every_published_division_with_a_published_whole_is_a_case():
    wholes = {(row.dataset, row.model, row.epochs) for row in ROWS if row.splits == 1}
    divisions = {(row.dataset, row.model, row.epochs, row.splits) for row in ROWS if row.splits > 1}
    cases = {(case.dataset, case.model, case.epochs, case.splits) for case in CASES}
    assert cases == {key for key in divisions if key[:3] in wholes}


def test_a_published_division_is_told_its_own_gain():
    assert advise(published("wrn_28_10", "cifar10", 4)) == {
        "text": "compared with the whole on CIFAR-10, this division gained 0.27 points after 300 epochs and gained "
        "0.73 points after 1800 epochs",
        "source": "arXiv 2011.14660",
        "favours": "branches",
    }
    both_ways = advise(published("se_resnet_164", "cifar10", 2))
    assert "lost 0.01 points after 1800 epochs" in both_ways["text"] and both_ways["favours"] is None


def test_large_branches_that_lost_are_not_advised_by_their_size():
    advice = advise(published("wrn_50_2", "imagenet2012", 2))
    assert advice["text"] == "compared with the whole on ImageNet, this division lost 1.02 points after 120 epochs"
    assert advice["favours"] == "whole"


def test_another_rule_data_set_or_number_of_branches_is_not_the_published_division():
    for changes in ({"published": False}, {"dataset": "svhn_cropped"}, {"splits": 3}):
        assert "about this size" in advise(dataclasses.replace(published("wrn_28_10", "cifar10", 4), **changes))["text"]


def test_small_branches_are_compared_with_small_ones():
    cases = near(division(0.30), CASES)
    assert [(case.model, case.splits) for case in cases] == [("resnet_110", 4), ("se_resnet_110", 4), ("resnet_164", 4)]
    advice = advise(division(0.30))
    assert advice["text"] == (
        "branches of 0.30 M parameters: of 3 published cases of about this size (0.30 to 0.44 M), 1 beat the whole, "
        "and the differences are -0.60 to +0.33 points (CIFAR-100, 300 epochs)"
    )
    assert advice["favours"] == "whole"


@pytest.mark.parametrize(
    ("params", "start"),
    [
        (
            0.02,
            "branches of 0.020 M parameters: no published case is as small; of the 3 nearest (0.30 to 0.44 M), 1 beat",
        ),
        (90, "branches of 90 M parameters: no published case is as large; of the 3 nearest (18 to 27 M), 3 beat"),
    ],
)
def test_a_size_beyond_all_cases_is_said_to_be_so(params, start):
    assert advise(division(params))["text"].startswith(start)


def test_a_gap_between_the_cases_is_said_to_be_one():
    cases = [Case("s", "cifar100", "a", 1, 2, 0.1, 0.5), Case("s", "cifar100", "b", 1, 2, 10, -0.5)]
    advice = advise(division(1.0), cases)
    assert "no published case is of this size; of the 2 nearest (0.10 to 10 M), 1 beat the whole" in advice["text"]
    assert advice["favours"] is None


def test_one_more_case_is_one_more_line():
    case = Case("a paper", "cifar100", "resnet_56", 200, 2, 0.02, -1.5)
    advice = advise(division(0.02), [*CASES, case])
    assert "of 1 published cases of about this size (0.020 M), 0 beat the whole" in advice["text"]
    assert advice["text"].endswith("the differences are -1.50 points (CIFAR-100, 200 epochs)")
    assert advice["source"] == "a paper" and advice["favours"] == "whole"


def test_images_of_another_size_have_cases_of_their_own():
    small, large = advise(division(20, dataset="x")), advise(division(20, dataset="x", image_size=224))
    assert "(CIFAR-10 and CIFAR-100, 300 to 1800 epochs)" in small["text"] and "(ImageNet, 120 epochs)" in large["text"]
    assert " -1.02 to +0.92 points" in large["text"]  # the loss of WRN-50-2 is among them


def test_what_makes_the_cases_unlike_is_said_and_favours_nothing():
    few = advise(division(0.3, dataset="digits", training_images=1438))
    assert few["text"].endswith("; published runs had at least 50,000, here there are 1,438 training images")
    many = advise(division(0.3, splits=8))
    assert many["text"].endswith("; no published run has more than 4 branches")
    trained = advise(dataclasses.replace(published("wrn_28_10", "cifar100", 2), pretrained=True))
    assert trained["text"].endswith("; published runs started from random weights")
    unknown = advise(division(0.3, dataset="folder:x", training_images=0))
    assert ";" not in unknown["text"]
    assert [advice["favours"] for advice in (few, many, trained, unknown)] == [None] * 4


def test_nothing_is_said_of_one_branch():
    assert advise(division(1, splits=1)) is None


@pytest.mark.parametrize(
    ("model", "family", "task"),
    [
        ("vit_s_16", "vit", "classification"),
        ("own.keras", "", "classification"),
        ("deeplabv3_tiny", "deeplab", "segmentation"),
        ("x3d_m", "x3d", "video"),
    ],
)
def test_other_networks_are_outside_of_the_evidence(model, family, task):
    assert advise(division(1, model=model, family=family, task=task)) == {
        "text": f"no published division is of a network like {model}; all are of other families, convolutional image "
        "classifiers",
        "source": None,
        "favours": None,
    }


def test_the_digits_are_as_many_as_noted():
    from dico_tf.config import Data

    assert len(digits.load(Data(), 0).splits["train"].labels) == known_datasets.TRAINING_IMAGES["digits"]


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("below 0.5 M parameters", 0, 0.5),
        ("0.5 to 1.5 M", 0.5, 1.5),
        ("1.5 to 6 M", 1.5, 6),
        ("6 M and more", 6, 1000),
    ],
)
def test_the_page_sums_up_the_cases_on_small_images(name, low, high):
    gains = [c.gain for c in CASES if c.dataset != "imagenet2012" and low <= c.params < high]
    row = f"| {name} | {len(gains)} | {sum(g > 0 for g in gains)} | {min(gains):+.2f} to {max(gains):+.2f} |"
    assert row in (ROOT / "docs/when_to_divide.md").read_text()


def test_the_table_of_the_page_has_every_case():
    page = (ROOT / "docs/when_to_divide.md").read_text()
    for case in sorted(CASES, key=lambda case: case.params):
        name = evidence.NAMES[case.dataset]
        line = f"| {case.params:.2f} | {case.gain:+.2f} | {case.model} | {case.splits} | {name} | {case.epochs} |"
        assert line in page.splitlines()
