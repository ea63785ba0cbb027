import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dico_tf.errors import UserError
from dico_tf.evaluation import metrics
from dico_tf.evaluation.averaging import combine
from dico_tf.evaluation.report import evaluate
from dico_tf.formulas.averages import AVERAGES

ROOT = Path(__file__).parents[2]
NAMES = ("bird", "cat", "dog", "frog")


def random_case(seed=0, images=30, branches=3):
    draw = np.random.default_rng(seed)
    return draw.normal(0, 2, (images, branches, 4)).astype(np.float32), draw.integers(0, 4, images)


def evaluated(logits, labels, average="logits", select="validation", weights="raw"):
    return evaluate(logits, labels, average, "test", select, weights, NAMES)


def test_the_report_has_the_published_keys():
    report = evaluated(*random_case())
    assert list(report) == [
        "format",
        "split",
        "select",
        "weights",
        "branches",
        "ensemble",
        "average",
        "averages",
        "diversity",
        "gain",
        "per_class",
        "confusion",
        "class_names",
    ]
    assert report["format"] == 1
    assert (report["split"], report["select"], report["weights"]) == ("test", "validation", "raw")
    scores = ["top1", "top5", "nll", "brier", "ece", "balanced_accuracy", "macro_f1"]
    assert [list(branch) for branch in report["branches"]] == [scores] * 3
    assert list(report["ensemble"]) == scores
    assert list(report["diversity"]) == ["disagreement", "q_statistic", "ambiguity", "ambiguity_score"]
    assert report["class_names"] == list(NAMES)


@pytest.mark.parametrize("average", AVERAGES)
def test_the_report_is_plain_json(average):
    report = evaluated(*random_case(), average=average)
    assert json.loads(json.dumps(report, allow_nan=False)) == report


@pytest.mark.parametrize("average", AVERAGES)
def test_the_ensemble_is_measured_under_the_average_asked_for(average):
    logits, labels = random_case()
    report = evaluated(logits, labels, average=average)
    assert report["ensemble"] == metrics.scores(combine(logits, average), labels)
    assert report["average"] == average
    assert report["averages"][average] == report["ensemble"]["top1"]
    assert list(report["averages"]) == list(AVERAGES)
    assert report["per_class"] == metrics.per_class_accuracy(combine(logits, average), labels)
    assert report["confusion"] == metrics.confusion(combine(logits, average), labels).tolist()
    assert report["branches"][1] == metrics.scores(logits[:, 1], labels)


@pytest.mark.parametrize(("average", "score"), [("logits", "nll"), ("probs", "brier")])
def test_the_report_keeps_the_identity_of_ambiguity(average, score):
    report = evaluated(*random_case(), average=average)
    assert report["diversity"]["ambiguity_score"] == score
    mean = np.mean([branch[score] for branch in report["branches"]])
    assert mean - report["diversity"]["ambiguity"] == pytest.approx(report["ensemble"][score], abs=1e-6)


def test_a_class_without_images_is_null():
    logits, labels = random_case()
    report = evaluated(logits, np.minimum(labels, 2))
    assert report["per_class"][3] is None
    assert sum(report["confusion"][3]) == 0


def test_one_branch_reports_null_where_nothing_is_defined():
    report = evaluated(*random_case(branches=1))
    assert report["diversity"] == {
        "disagreement": 0.0,
        "q_statistic": None,
        "ambiguity": 0.0,
        "ambiguity_score": "nll",
    }
    assert report["ensemble"] == report["branches"][0]


def test_the_report_of_huge_logits_is_plain_json_too():
    logits, labels = random_case()
    largest = np.float32(np.finfo(np.float32).max)
    for average in AVERAGES:
        for huge in (logits * 1e4, np.sign(logits) * largest):
            report = evaluated(huge, labels, average)
            assert json.loads(json.dumps(report, allow_nan=False)) == report


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"average": "mean"}, "unknown average 'mean'"),
        ({"select": "train"}, "select: expected one of validation, test, got 'train'"),
        ({"weights": "best"}, "weights: expected one of raw, ema, got 'best'"),
    ],
)
def test_a_word_out_of_its_menu_is_refused(change, message):
    with pytest.raises(UserError, match=message):
        evaluated(*random_case(), **change)


def test_class_names_must_match_the_classes():
    with pytest.raises(UserError, match="expected 4 class names, as many as the logits have, got 2"):
        evaluate(*random_case(), "logits", "test", "test", "raw", ["a", "b"])


def test_a_diverged_branch_is_named():
    logits, labels = random_case()
    logits[5:9, 2] = np.nan
    with pytest.raises(UserError, match="branches 2 in 4 of 30 rows, first in row 5"):
        evaluated(logits, labels)


def test_logits_beyond_float32_count_as_infinite():
    with pytest.raises(UserError, match="NaN or infinity in the logits of branches 0 in 1 of 2 rows"):
        evaluated(np.array([[[1e39, 0, 0, 0]], [[0, 0, 0, 0]]]), [0, 1])


def test_no_images_are_refused():
    with pytest.raises(UserError, match="nothing to evaluate"):
        evaluated(np.zeros((0, 2, 4)), np.zeros(0, int))


NUMPY_ONLY = ("averaging", "metrics", "diversity", "report", "table")


def test_measuring_imports_neither_tensorflow_nor_keras():
    modules = ", ".join(NUMPY_ONLY)
    code = (
        f"import sys; from dico_tf.evaluation import {modules}\n"
        "sys.exit(', '.join({'tensorflow', 'keras', 'scipy', 'sklearn'} & set(sys.modules)) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_the_pages_example_works_as_it_says(tmp_path, monkeypatch):
    page = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    (output,) = re.findall(r"```text\n(.*?)```", page, flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    ast.parse(block)
    printed = []
    exec(block, {"print": printed.append})
    assert "\n".join(printed) == output.rstrip("\n")
