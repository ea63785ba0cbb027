"""Executed, a committee answers as it decides where all logits are known, and asks nobody for nothing."""

import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dico_tf.committee.decision import ALWAYS, NEVER, Committee, average_cost, decide, ensemble, reach
from dico_tf.committee.routing import BUCKETS, refilled, routed
from dico_tf.errors import UserError
from dico_tf.formulas.averages import AVERAGES
from dico_tf.formulas.confidences import CONFIDENCES
from tests.committee.generated import pool

POOL = pool(members=4)
NAMES = POOL.members
LOGITS = POOL.stacked(NAMES)
PRICE = [10.0, 30.0, 90.0, 270.0]


class Spy:
    """Members whose images are the rows of a table of logits; each call's size is noted."""

    def __init__(self, logits, count=4):
        self.calls = [[] for _ in range(count)]
        self.members = [self._member(logits[:, k], calls) for k, calls in enumerate(self.calls)]

    def _member(self, table, calls):
        def answer(rows):
            calls.append(len(rows))
            return table[rows]

        return answer


def cascade(n, *gates, **how):
    return Committee(members=NAMES[:n], gates=gates, **how)


def same(found, expected, asked_only=True):
    assert (found.stage == expected.stage).all() and found.stage.dtype == expected.stage.dtype
    np.testing.assert_array_equal(found.logits, expected.logits)
    assert (found.lost == expected.lost).all() and (found.classes == expected.classes).all()
    asked = np.arange(found.confidence.shape[1]) <= found.stage[:, None]
    np.testing.assert_array_equal(found.confidence, np.where(asked, expected.confidence, np.nan))


gate = st.one_of(st.floats(0.1, 1.0), st.just(NEVER), st.just(ALWAYS))


@given(
    data=st.data(),
    n=st.integers(1, 4),
    images=st.integers(0, 90),
    name=st.sampled_from(sorted(CONFIDENCES)),
    average=st.sampled_from(sorted(AVERAGES)),
    scaled=st.booleans(),
    bad=st.booleans(),
    buckets=st.sampled_from([(1,), (3,), (2, 5), BUCKETS]),
)
@settings(max_examples=120, deadline=None)
def test_routing_is_what_is_decided_where_all_is_known(data, n, images, name, average, scaled, bad, buckets):
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    rows = random.permutation(len(LOGITS))[:images]
    logits = LOGITS[rows, :n].copy()
    if bad and images:
        logits[random.integers(images), random.integers(n), 3] = random.choice([np.nan, np.inf, -np.inf])
    how = {"weights": (1.0, 3.0, 2.0, 0.5)[:n]} if scaled and AVERAGES[average].weighted else {}
    how |= {"temperatures": (1.5, 0.7, 1.0, 2.0)[:n]} if scaled else {}
    committee = cascade(n, *data.draw(st.tuples(*[gate] * (n - 1))), confidence=name, average=average, **how)
    expected = decide(committee, logits)
    spy = Spy(logits, n)
    same(routed(committee, spy.members, np.arange(images), buckets, classes=10), expected)
    cuts = sorted(data.draw(st.lists(st.integers(0, images), max_size=12)))
    batches = [np.arange(a, b) for a, b in itertools.pairwise([0, *cuts, images])]
    open_batches = data.draw(st.integers(1, 5))
    parts = list(refilled(committee, Spy(logits, n).members, batches, buckets, open_batches, classes=10))
    assert [len(part.stage) for part in parts] == [len(batch) for batch in batches]
    for part, batch in zip(parts, batches, strict=True):
        same(part, decide(committee, logits[batch]))
    assert all(size in buckets for size in itertools.chain(*spy.calls))


def test_only_the_undecided_are_asked_on():
    committee, spy = cascade(4, 0.9, 0.9, 0.9), Spy(LOGITS)
    found = routed(committee, spy.members, np.arange(len(LOGITS)), buckets=(1,))
    reached = reach(found.stage, 4) * len(LOGITS)
    assert [sum(calls) for calls in spy.calls] == reached.round().astype(int).tolist()
    assert reached[3] > 0 and (np.diff(reached) < 0).all()
    by_calls = sum(price * sum(calls) for price, calls in zip(PRICE, spy.calls, strict=True)) / len(LOGITS)
    assert average_cost(PRICE, found.stage) == pytest.approx(by_calls, abs=1e-9)


def test_nobody_is_asked_about_nothing():
    spy = Spy(LOGITS)
    same(routed(cascade(4, 0.0, 0.5, 0.5), spy.members, np.arange(40)), decide(cascade(4, 0.0, 0.5, 0.5), LOGITS[:40]))
    assert spy.calls == [[32, 8], [], [], []]
    spy = Spy(LOGITS)
    found = routed(ensemble(*NAMES), spy.members, np.arange(0), classes=10)
    assert spy.calls == [[]] * 4 and found.logits.shape == (0, 10) and found.classes.tolist() == []
    assert list(refilled(ensemble(*NAMES), spy.members, [])) == []


def test_a_call_has_the_size_of_a_bucket():
    spy = Spy(LOGITS)
    routed(ensemble(*NAMES), spy.members, np.arange(75))
    assert spy.calls == [[32, 32, 12]] * 4


def test_one_image_at_a_time_routing_takes_little_beside_its_members():
    """At most a tenth of members of 5 ms: of the processor's time, which others on this machine do not change much."""
    spy, began = Spy(LOGITS), time.process_time()
    for row in range(200):
        routed(cascade(4, 0.9, 0.9, 0.9), spy.members, np.array([row]))
    assert time.process_time() - began < 0.1 * 0.005 * sum(map(len, spy.calls))


def test_what_fills_a_batch_up_is_an_image_of_it():
    seen = []

    def member(images):
        seen.append(images.copy())
        return images.reshape(len(images), -1)[:, :3].astype(np.float32)

    images = np.random.default_rng(0).integers(1, 255, (5, 2, 2, 3), np.uint8)
    found = routed(Committee(members=("a",)), [member], images)
    assert seen[0].shape == (6, 2, 2, 3) and (seen[0][5:] == images[4]).all()
    assert (found.logits == images.reshape(5, -1)[:, :3]).all()


def test_a_row_without_a_number_goes_to_the_last_member():
    logits = LOGITS.copy()
    logits[5, 0, 2] = np.nan
    spy = Spy(logits)
    found = routed(cascade(4, ALWAYS, ALWAYS, ALWAYS), spy.members, np.arange(20), buckets=(1,))
    assert found.stage[5] == 3 and found.lost[5] and found.lost.sum() == 1 and (np.delete(found.stage, 5) == 0).all()
    assert [len(calls) for calls in spy.calls] == [20, 1, 1, 1]


def test_a_stream_fills_the_batches_of_later_members():
    committee, batches = cascade(3, 0.9, 0.9), np.split(np.arange(400), 50)
    each, whole = Spy(LOGITS, 3), Spy(LOGITS, 3)
    for batch in batches:
        routed(committee, each.members, batch)
    found = list(refilled(committee, whole.members, batches, open_batches=1000))
    assert all(size == 32 for calls in whole.calls for size in calls[:-1])
    assert [len(calls) for calls in whole.calls] == [
        -(-n // 32) for n in map(round, 400 * reach(np.concatenate([part.stage for part in found]), 3))
    ]
    assert sum(map(len, whole.calls)) < sum(map(len, each.calls)) / 3


def test_a_stream_of_any_length_takes_bounded_memory():
    """Of 1,000 batches one image each that is undecided for long: no more than so many are ever open."""
    logits = np.zeros((1000, 2, 3), np.float32)
    logits[:, 0, 0] = 9
    logits[::50, 0, 0] = 0  # unsure
    drawn = 0

    def batches():
        nonlocal drawn
        for row in range(1000):
            drawn += 1
            yield np.array([row])

    most = 0
    spy = Spy(logits, 2)
    for number, found in enumerate(refilled(cascade(2, 0.9), spy.members, batches(), open_batches=10)):
        most = max(most, drawn - number)
        assert found.stage[0] == (number % 50 == 0)
    assert number == 999 and most <= 11


def test_answers_come_as_soon_as_they_and_those_before_them_are_there():
    stream = refilled(cascade(2, 0.0), Spy(LOGITS, 2).members, (np.arange(32) + 32 * n for n in itertools.count()))
    assert all(len(next(stream).stage) == 32 for _ in range(3))  # of an endless stream


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"members": 2}, "a network for each of m0, m1, m2, got 2"),
        ({"buckets": ()}, "buckets must be .* got none"),
        ({"buckets": (0, 4)}, "buckets must be .* got 0, 4"),
        ({"open_batches": 0}, "open_batches must be at least 1"),
        ({"answer": lambda rows: np.zeros((1, 3), np.float32)}, r"m0 must answer 32 images .* got float32 \[1, 3\]"),
        ({"answer": lambda rows: np.zeros((len(rows), 3), int)}, r"m0 must answer 32 images .* got int64 \[32, 3\]"),
    ],
)
def test_what_cannot_be_routed_is_refused(how, message):
    members = [how.pop("answer", Spy(LOGITS).members[0])] * how.pop("members", 3)
    with pytest.raises(UserError, match=message):
        list(refilled(cascade(3, 0.5, 0.5), members, [np.arange(32)], **how))
