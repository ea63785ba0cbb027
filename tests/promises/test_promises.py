"""The list of promises fits the code: what breaks them is run by `make promises`."""

from pathlib import Path

import pytest

from tests.promises.promises import PROMISES

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.text[:60])
def test_what_breaks_a_promise_is_one_place_of_the_code(promise):
    assert (ROOT / promise.file).read_text(encoding="utf-8").count(promise.old) == 1
    assert promise.new != promise.old


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.text[:60])
def test_a_promise_has_tests_that_exist(promise):
    assert promise.fast or promise.slow
    for test in (*promise.fast, *promise.slow):
        file, _, name = test.partition("::")
        text = (ROOT / file).read_text(encoding="utf-8")
        assert not name or f"def {name}(" in text


def test_there_are_enough_and_almost_all_are_noticed_by_the_fast_tier():
    assert len(PROMISES) >= 20 and len({promise.text for promise in PROMISES}) == len(PROMISES)
    assert sum(bool(promise.fast) for promise in PROMISES) >= 0.9 * len(PROMISES)
