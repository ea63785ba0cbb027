from pathlib import Path

import pytest

from dico_tf.committee.published import ROWS, computed, reach, table


@pytest.mark.parametrize("row", ROWS, ids=lambda row: "-".join(row.members))
def test_three_columns_follow_from_who_is_asked_how_often(row):
    found = computed(row)
    assert found[0] == pytest.approx(row.recalled[0], rel=0.035)
    assert found[1] == pytest.approx(row.recalled[1], rel=0.02)
    assert found[2] == pytest.approx(row.recalled[2], rel=0.01)


def test_reach_falls_from_one():
    assert reach((78.7, 21.3)) == pytest.approx([1, 0.213])


def test_the_page_shows_this_table():
    assert table() in (Path(__file__).parents[2] / "docs/committees.md").read_text()
