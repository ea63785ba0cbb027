import numpy as np
import pytest

from dico_tf.evaluation.report import evaluate
from dico_tf.evaluation.table import evaluation_table, per_class, table


def test_columns_are_aligned_as_asked():
    text = table(["name", "count"], [["a", 5], ["longer", 12345678]], right_aligned=[1])
    assert text.split("\n") == [
        "name       count",
        "------  --------",
        "a              5",
        "longer  12345678",
    ]


def test_columns_are_flush_left_unless_asked():
    assert table(["x", "name"], [["aa", "b"]]).split("\n") == ["x   name", "--  ----", "aa  b"]


def test_nothing_shows_as_a_dash():
    assert table(["q"], [[None]]) == "q\n-\n-"


def test_zero_is_not_nothing():
    assert table(["q"], [[0]]) == "q\n-\n0"


def test_a_table_without_rows_is_its_header():
    assert table(["a", "bc"], []) == "a  bc\n-  --"


def test_wide_letters_take_two_columns_and_accents_none():
    lines = table(["class", "n"], [["熊猫", 1], ["e\u0301te", 2]], right_aligned=[1]).split("\n")
    assert lines[2] == "熊猫   1"
    assert lines[3] == "e\u0301te    2"


def test_rows_of_another_length_are_refused():
    with pytest.raises(ValueError, match="1 cells under 2 headers"):
        table(["a", "b"], [["x"]])


def test_rows_may_come_from_a_generator():
    assert table(["n"], ([n] for n in range(2))) == "n\n-\n0\n1"


def evaluation(average="logits", select="validation", branches=2):
    # branch 0 answers 0, 1, 0; branch 1 answers 0, 1, 1; the truth is 0, 1, 1
    probabilities = [[[0.9, 0.1], [0.8, 0.2]], [[0.2, 0.8], [0.3, 0.7]], [[0.6, 0.4], [0.1, 0.9]]]
    logits = np.log(probabilities)[:, :branches]
    return evaluate(logits, [0, 1, 1], average, "test", select, "ema", ["cat", "dog"])


def test_an_evaluation_shows_every_branch_and_the_ensemble():
    lines = evaluation_table(evaluation()).split("\n")
    assert lines[0] == "test: 3 images, ema weights, epoch chosen on validation"
    headers = ["top-1", "%", "top-5", "%", "NLL", "Brier", "ECE", "%", "balanced", "%", "macro", "F1", "%"]
    assert lines[2].split() == headers
    assert lines[4].split()[:4] == ["branch_0", "66.67", "100.00", "0.4149"]  # -(ln 0.9 + ln 0.8 + ln 0.4) / 3
    assert lines[5].split()[:4] == ["branch_1", "100.00", "100.00", "0.2284"]  # -(ln 0.8 + ln 0.7 + ln 0.9) / 3
    assert lines[6].startswith("ensemble (logits)")
    assert lines[8] == "ensemble top-1 % by average: logits 100.00, probs 100.00, max 100.00, median 100.00"
    assert lines[9].startswith("diversity: disagreement 33.33 %, Q -, ambiguity 0.0")
    assert lines[9].endswith("(nll)")
    assert [line.split() for line in lines[11:]] == [
        ["class", "images", "accuracy", "%"], ["-----", "------", "----------"], ["cat", "1", "100.00"],
        ["dog", "2", "100.00"],
    ]  # fmt: skip


def test_every_line_of_scores_ends_in_the_same_column():
    lines = evaluation_table(evaluation()).split("\n")[2:7]
    assert len({len(line) for line in lines}) == 1


def test_choosing_on_the_test_split_is_marked():
    assert "chosen on test itself" in evaluation_table(evaluation(select="test")).split("\n")[0]


def test_an_average_without_ambiguity_shows_a_dash():
    assert evaluation_table(evaluation(average="max")).split("\n")[9].endswith("ambiguity -")


def test_one_branch_makes_a_table_too():
    lines = evaluation_table(evaluation(branches=1)).split("\n")
    assert lines[4].split()[1:] == lines[5].split()[2:]
    assert lines[8] == "diversity: disagreement 0.00 %, Q -, ambiguity 0.0000 (nll)"


def test_an_older_evaluation_is_shown_without_what_it_lacks():
    older = evaluation()
    for scores in (*older["branches"], older["ensemble"]):
        del scores["balanced_accuracy"], scores["macro_f1"]
    del older["per_class"]
    text = evaluation_table(older)
    assert "balanced" not in text and "accuracy %" not in text and text.endswith("(nll)")


def of_classes(accuracies, images=3):
    counts = [0 if share is None else images for share in accuracies]
    return {
        "per_class": accuracies,
        "confusion": np.diag(counts).tolist(),
        "class_names": [f"c{n}" for n in range(len(accuracies))],
    }


def test_up_to_twenty_classes_have_a_row_each_also_without_images():
    rows = per_class(of_classes([0.5] * 19 + [None]))
    assert rows == [(f"c{n}", 3, 0.5) for n in range(19)] + [("c19", 0, None)]


def test_of_more_classes_the_best_and_the_worst_have_a_row():
    rows = per_class(of_classes([n / 30 for n in range(29)] + [None]))
    assert [name for name, _, _ in rows[:5]] == ["c28", "c27", "c26", "c25", "c24"]
    assert rows[5] == ("(20 other classes)", None, None)
    assert [name for name, _, _ in rows[6:]] == ["c4", "c3", "c2", "c1", "c0"]


def test_few_classes_with_images_among_many_are_each_shown_once():
    rows = per_class(of_classes([0.1, None, 0.3] + [None] * 30))
    assert [name for name, _, _ in rows] == ["c2", "c0"]
