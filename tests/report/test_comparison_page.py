"""The page of a comparison, complete or not."""

import pytest

from dico_tf.report import comparison
from tests.report import generated
from tests.report.pages import checked, headings, table_of

ALL = ["Conclusion", "Arms", "Differences", "Accuracy against cost", "Trials", "Commands and versions"]


def test_a_comparison_has_its_arms_differences_and_trials(tmp_path):
    generated.comparison(tmp_path)
    (tmp_path / "whole/seed_1").mkdir(parents=True)
    (tmp_path / "whole/seed_1/report.html").touch()
    assert comparison.write_page(tmp_path) == f"report: {tmp_path / 'report.html'}"
    root = checked((tmp_path / "report.html").read_text())
    assert headings(root) == ALL and "divided is better than whole." in root.text
    head, whole, divided, four = table_of(root, "Mean ± standard deviation")
    assert whole == ["whole", "3", "81.00 ± 1.00", "0.5000", "1,000", "1,000,000", "2.50", "1.00"]
    assert divided[-2:] == ["–", "1.00"] and four[-1] == "2.00 (differs)" and len(head) == 8
    difference, *_ = table_of(root, "p is that of")[1:]
    assert difference == ["divided less whole", "+2.00", "+1.00 to +3.00", "0.004", "0.008", "3", "10,000"]
    trials = table_of(root, "Trials that")[1:]
    assert [row[2] for row in trials] == ["chosen", ""] * 3 and trials[0][1] == "--lr=0.1"
    links = [link.attributes["href"] for link in root.all("a") if not link.attributes["href"].startswith("#")]
    assert links == ["whole/seed_1/report.html"]
    assert "--lr at the edge of its values" in root.text and "python compare.py --seeds=3" in root.text


def test_an_incomplete_comparison_says_so(tmp_path):
    root = checked(comparison.comparison_page(generated.comparison(tmp_path, missing=2)))
    assert headings(root) == ALL and "not complete: 2 runs missing" in root.text
    *_, unknown = table_of(root, "p is that of")
    assert unknown[1:5] == ["–"] * 4
    *_, four = table_of(root, "Mean ± standard deviation")
    assert four[1:3] == ["0", "–"]


def test_before_the_first_run_there_is_a_page(tmp_path):
    generated.comparison(tmp_path, missing=1)
    content = comparison.json_files.read(tmp_path / "comparison.json", "", missing="", again="")
    empty = {**content, "arms": [], "differences": [], "conclusion": "", "versions": {}}
    comparison.json_files.write(tmp_path / "comparison.json", empty)
    assert headings(checked(comparison.comparison_page(tmp_path))) == ["Conclusion", "Commands and versions"]


def test_names_are_text(tmp_path):
    root = checked(comparison.comparison_page(generated.comparison(tmp_path, name=generated.ODD)))
    assert generated.ODD in root.text


@pytest.mark.parametrize("content", [None, "{"])
def test_a_missing_or_damaged_file_is_one_line(tmp_path, content):
    if content:
        (tmp_path / "comparison.json").write_text(content)
    assert comparison.write_page(tmp_path).startswith(f"warning: no report: {tmp_path}/comparison.json")
