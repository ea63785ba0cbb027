"""The page of a run: its sections, its numbers, and what is left out."""

import json
import tarfile

import numpy as np
import pytest

from dico_tf.committee.statistics import wilson
from dico_tf.errors import UserError
from dico_tf.evaluation import diversity, metrics
from dico_tf.files import tables
from dico_tf.report import run_page
from dico_tf.report.accuracy import binned
from tests.report import generated
from tests.report.pages import checked, headings, table_of
from tests.test_v0 import OLD

ALL = [
    "Summary", "Learning curves", "Accuracy against cost", "Reliability", "Disagreement of the branches", "Classes",
    "Views of each branch", "Images that the branches disagree on", "Surest mistakes", "Commands and versions",
]  # fmt: skip


def page_of(folder):
    return checked(run_page.run_page(folder))


def test_a_run_has_every_section_with_its_numbers(tmp_path):
    root = page_of(generated.run(tmp_path))
    assert headings(root) == ALL
    evaluation = json.loads((tmp_path / "evaluation_test.json").read_text())
    head, whole, *branches, ensemble = table_of(root, "Cost and scores")
    assert head[1:5] == ["parameters", "multiply-adds", "top-1 %", "95 % interval"] and len(branches) == 3
    assert whole[:3] == ["whole network (not trained)", "310", "7,000,000"] and set(whole[3:]) == {"–"}
    top1 = evaluation["ensemble"]["top1"]
    low, high = wilson(round(300 * top1), 300)
    assert ensemble[1:5] == ["300", "6,000,000", f"{100 * top1:.2f}", f"{100 * low:.1f} to {100 * high:.1f}"]
    matrix = table_of(root, "Share of the test images")
    shares = [float(cell) for row in matrix[1:] for cell in row[1:] if cell != "–"]
    assert np.mean(shares) == pytest.approx(100 * evaluation["diversity"]["disagreement"], abs=0.01)
    counts = [[int(cell) for cell in row[1:-1]] for row in table_of(root, "Confusion of the ensemble")[1:]]
    assert counts == evaluation["confusion"]
    assert "python train.py --dataset=digits" in root.text and "python evaluate.py --workdir=" in root.text
    assert len(list(root.all("img"))) == 4 * 6 + 12 + 12


def test_the_surest_mistakes_are_mistakes_and_the_surest(tmp_path):
    root = page_of(generated.run(tmp_path))
    logits, labels, ids = tables.read_predictions(tmp_path / "predictions_test.npz")
    mean = logits.mean(1)
    sure = metrics.softmax(mean).max(1)
    wrong = np.flatnonzero(mean.argmax(1) != labels)
    order = wrong[np.argsort(-sure[wrong])][:12]
    section = next(each for each in root.all("section") if next(each.all("h2")).text == "Surest mistakes")
    texts = [image.attributes["alt"] for image in section.all("img")]
    expected = [
        f"Image {ids[n]}, label class {labels[n]}; answer: class {mean[n].argmax()}, {100 * sure[n]:.1f} %"
        for n in order
    ]
    assert texts == expected


def test_the_reliability_diagram_has_the_calibration_error_of_the_evaluation():
    logits, labels = generated.answers(images=2000)
    points = binned(logits[:, 0], labels, metrics.ECE_BINS)
    assert sum(count for *_, count in points) == 2000
    error = sum(count * abs(right - sure) for sure, right, count in points) / 2000
    assert error == pytest.approx(metrics.ece(logits[:, 0], labels))


def test_images_are_those_that_the_branches_disagree_on(tmp_path):
    generated.run(tmp_path)
    with np.load(tmp_path / "gallery_test.npz") as stored:
        classes = stored["classes"][stored["disagreed"]]
    assert len(classes) == 12 and all(len(set(row[:-1])) > 1 for row in classes.tolist())
    logits, _ = generated.answers()
    assert diversity.disagreement(logits) < 1


@pytest.mark.parametrize(
    ("name", "sections"),
    [
        ("metrics.jsonl", ["Learning curves"]),
        ("views.npz", ["Views of each branch"]),
        ("gallery_test.npz", ["Images that the branches disagree on", "Surest mistakes"]),
        ("predictions_test.npz", ["Reliability", "Disagreement of the branches"]),
        ("summary.json", ["Accuracy against cost"]),
        ("run.flags", []),
    ],
)
@pytest.mark.parametrize("damaged", [False, True])
def test_a_missing_or_damaged_file_leaves_out_its_sections(tmp_path, name, sections, damaged):
    path = generated.run(tmp_path) / name
    if damaged:
        path.write_bytes(b"\xff\x00 no such content")
    else:
        path.unlink()
    assert headings(page_of(tmp_path)) == [title for title in ALL if title not in sections]


def test_without_a_test_split_the_page_shows_validation(tmp_path):
    generated.run(tmp_path)
    for path in (*tmp_path.glob("*_test.*"),):
        path.unlink()
    root = page_of(tmp_path)
    assert headings(root) == ALL and "300 validation images" in root.text


def test_a_run_that_was_not_evaluated_has_curves_and_commands(tmp_path):
    generated.run(tmp_path)
    for path in (*tmp_path.glob("evaluation*"), *tmp_path.glob("gallery*"), tmp_path / "summary.json"):
        path.unlink()
    root = page_of(tmp_path)
    assert headings(root) == ["Learning curves", "Views of each branch", "Commands and versions"]
    assert "has not been evaluated yet" in root.text


def test_names_from_the_data_are_text(tmp_path):
    names = [f"{generated.ODD} {c}" for c in range(4)]
    root = page_of(generated.run(tmp_path, names=names))
    assert names[0] in root.text and not list(root.all("b"))
    assert any(generated.ODD in image.attributes["alt"] for image in root.all("img"))


def test_of_many_classes_the_worst_and_the_most_confused_are_listed(tmp_path):
    root = page_of(generated.run(tmp_path, images=2000, classes=100))
    pairs = table_of(root, "The 15 most frequent confusions")
    counts = [int(row[2]) for row in pairs[1:]]
    assert len(counts) == 15 and counts == sorted(counts, reverse=True)
    assert "The 10 classes with the lowest accuracy" in root.text


def test_a_long_run_with_many_branches_is_a_small_page(tmp_path):
    root = page_of(generated.run(tmp_path, branches=8, classes=40, epochs=1800, side=96))
    assert headings(root) == ALL


def test_one_branch_has_no_comparison_with_others(tmp_path):
    titles = headings(page_of(generated.run(tmp_path, branches=1)))
    missing = {"Accuracy against cost", "Disagreement of the branches", "Images that the branches disagree on"}
    assert titles == [title for title in ALL if title not in missing]


@pytest.mark.parametrize("name", ["dico", "segmentation", "video"])
def test_runs_of_earlier_versions_have_a_page(tmp_path, name):
    with tarfile.open(OLD / f"runs/{name}.tar.xz") as file:
        file.extractall(tmp_path, filter="data")
    root = page_of(tmp_path / "runs" / name)
    expected = ALL[:6] + ALL[-1:]
    if name == "segmentation":
        expected = [title for title in expected if title not in ("Reliability", "Disagreement of the branches")]
    assert headings(root) == expected
    assert ("mIoU %" in root.text) == (name == "segmentation")


def test_a_page_that_cannot_be_written_is_one_line_and_no_error(tmp_path):
    assert run_page.write_page(tmp_path).startswith("warning: no report: ")
    with pytest.raises(UserError, match="is not the folder of a run"):
        run_page.run_page(tmp_path)
    generated.run(tmp_path)
    (tmp_path / "report.html").mkdir()
    assert run_page.write_page(tmp_path).startswith(f"warning: no report: cannot write {tmp_path}/report.html")


def test_an_unexpected_error_is_logged_with_its_traceback(tmp_path, monkeypatch, caplog):
    generated.run(tmp_path)
    monkeypatch.setattr(run_page, "page", lambda *_: 1 / 0)
    assert run_page.write_page(tmp_path) == f"warning: no report: {tmp_path}/report.html could not be made"
    assert "ZeroDivisionError" in caplog.text and not (tmp_path / "report.html").exists()
