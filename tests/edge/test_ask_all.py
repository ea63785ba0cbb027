"""All members at once by one deadline: members are plain objects, and the clock is virtual."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from dico_tf.committee.decision import ensemble
from dico_tf.edge.members.ask_all import BelowQuorum, ask_all
from dico_tf.edge.members.cascade import load_weighted_committee
from dico_tf.edge.members.combine import combine_answers
from dico_tf.edge.members.outcome import Cause, Missing, Vote
from dico_tf.errors import UserError
from dico_tf.evaluation.averaging import combine, softmax
from dico_tf.files.manifest import Manifest
from dico_tf.formulas.averages import AVERAGES
from tests.edge.virtual_time import now, run

LOGITS = np.random.default_rng(0).normal(size=(4, 2, 5)).astype(np.float32)  # [S, B, C]


class After:
    """A member that answers or fails after some seconds, and records whether it was cancelled."""

    def __init__(self, seconds, outcome):
        self.seconds, self.outcome, self.ended = seconds, outcome, ""

    async def ask(self, image, deadline):
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.ended = "cancelled"
            raise
        self.ended = "answered"
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


def answer(s):
    return Vote(LOGITS[s], "0123")


def committee(*members):
    return {f"branch_{s}": After(*member) for s, member in enumerate(members)}


def poll(members, quorum, deadline=1.0):
    """Return (answers or error, seconds, number of tasks that are still running)."""

    async def asking():
        try:
            answers = await ask_all(members, None, deadline, quorum)
        except BelowQuorum as error:
            answers = error
        took = now()
        await asyncio.sleep(0)
        return answers, took, len(asyncio.all_tasks()) - 1

    return run(asking())


def test_all_answer_and_nobody_waits_longer():
    answers, took, tasks = poll(committee(*((0.1 * s, answer(s)) for s in range(4))), quorum=2)
    assert (list(answers.votes), took, tasks) == ([f"branch_{s}" for s in range(4)], pytest.approx(0.3), 0)


def test_they_are_asked_at_once_and_reported_in_the_committees_order():
    answers, took, _ = poll(committee((0.3, answer(0)), (0.2, answer(1)), (0.1, answer(2))), quorum=3)
    assert (list(answers.votes), took) == (["branch_0", "branch_1", "branch_2"], pytest.approx(0.3))


def test_a_straggler_is_left_out_at_the_deadline_and_cancelled():
    members = committee((0.1, answer(0)), (9.0, answer(1)), (0.2, answer(2)))
    answers, took, tasks = poll(members, quorum=2)
    assert (list(answers.votes), answers.late, took, tasks) == (["branch_0", "branch_2"], ["branch_1"], 1.0, 0)
    assert members["branch_1"].ended == "cancelled"


@pytest.mark.parametrize("average", AVERAGES)
def test_the_average_is_over_those_present(average):
    answers, _, _ = poll(committee((0.1, answer(0)), (9.0, answer(1)), (0.2, answer(2)), (0.2, answer(3))), quorum=2)
    combined = combine_answers(answers, average)
    expected = combine(LOGITS[[0, 2, 3]].transpose(1, 0, 2), average)
    assert combined.probabilities == pytest.approx(softmax(expected), abs=1e-6)
    assert combined.class_id.tolist() == expected.argmax(-1).tolist()
    assert (combined.late, combined.missing, list(combined.versions)) == (
        ["branch_1"],
        {},
        ["branch_0", "branch_2", "branch_3"],
    )


def test_weights_and_temperatures_hold_over_those_present_too():
    answers, _, _ = poll(committee((0.1, answer(0)), (9.0, answer(1)), (0.2, answer(2)), (0.2, answer(3))), quorum=2)
    rules = ensemble(
        *(f"branch_{s}" for s in range(4)), weights=(3.0, 1.0, 2.0, 1.0), temperatures=(2.0, 1.0, 0.5, 1.0)
    )
    combined = combine_answers(answers, "logits", rules)
    expected = (3 * LOGITS[0] / 2 + 2 * LOGITS[2] / 0.5 + LOGITS[3]) / 6
    assert combined.logits == pytest.approx(expected, rel=1e-5)
    entry = {"members": ["a", "b"], "average": "logits", "weights": [2.0, 1.0], "temperatures": []}
    content = {"committee": entry, "members": [{"name": "a"}, {"name": "b"}]}
    assert load_weighted_committee(Manifest(Path(), content)) == ensemble("a", "b", weights=(2.0, 1.0))
    content = {"committee": {**entry, "weights": []}, "members": []}
    assert load_weighted_committee(Manifest(Path(), content)) is None
    with pytest.raises(
        UserError,
        match=r"is invalid: .*expected positive, finite weights, got -1\.0, 1\.0",
    ):
        load_weighted_committee(Manifest(Path(), {"committee": {**entry, "weights": [-1.0, 1.0]}, "members": []}))


def test_disagreement_is_the_entropy_of_the_mean_minus_the_mean_of_the_entropies():
    answers, _, _ = poll(committee((0, answer(0)), (0, answer(1))), quorum=2)
    p = softmax(LOGITS[:2]).mean(0)
    each = softmax(LOGITS[:2])
    expected = -(p * np.log(p)).sum(-1) + (each * np.log(each)).sum(-1).mean(0)
    assert combine_answers(answers, "logits").disagreement == pytest.approx(expected, abs=1e-6)


def test_one_member_disagrees_with_nobody():
    answers, _, _ = poll(committee((0, answer(0))), quorum=1)
    assert combine_answers(answers, "max").disagreement.tolist() == [0, 0]


def test_a_failure_ends_nothing_while_the_quorum_can_be_reached():
    answers, took, _ = poll(committee((0.5, answer(0)), (0.1, Missing(Cause.UNREACHABLE))), quorum=1)
    assert (list(answers.votes), took) == (["branch_0"], pytest.approx(0.5))
    assert combine_answers(answers, "logits").missing == {"branch_1": "cannot be reached"}


def test_an_unreachable_quorum_is_said_at_once():
    members = committee((0.5, answer(0)), (0.1, Missing(Cause.UNREACHABLE)), (0.5, answer(2)))
    error, took, tasks = poll(members, quorum=3)
    assert isinstance(error, BelowQuorum) and (took, tasks) == (pytest.approx(0.1), 0)
    assert error.code == "UNAVAILABLE" and "branch_0 was not waited for" in str(error)


@pytest.mark.parametrize(
    ("second", "code"),
    [
        ((0.2, Missing(Cause.UNREACHABLE)), "UNAVAILABLE"),
        ((0.2, Missing(Cause.UNUSABLE, "NaN")), "UNAVAILABLE"),
        ((0.2, Missing(Cause.BUSY)), "RESOURCE_EXHAUSTED"),
        ((0.2, Missing(Cause.LATE)), "DEADLINE_EXCEEDED"),
        ((9, answer(1)), "DEADLINE_EXCEEDED"),
    ],
)
def test_below_the_quorum_the_error_says_what_would_have_helped(second, code):
    error, _, _ = poll(committee((0.1, answer(0)), second), quorum=2)
    assert error.code == code
    assert str(error).startswith("1 of 2 members answered, but the quorum is 2: branch_1 ")


def test_a_fault_of_ours_costs_one_member_and_not_the_answer(caplog):
    answers, _, _ = poll(committee((0.1, answer(0)), (0.2, KeyError("logits"))), quorum=1)
    assert answers.missing["branch_1"].reason == "sent an unusable answer: KeyError"
    assert "asking branch_1 failed" in caplog.text


def test_a_deadline_that_has_passed_asks_for_nothing():
    error, took, _ = poll(committee((0, answer(0))), quorum=1, deadline=0.0)
    assert (error.code, took) == ("DEADLINE_EXCEEDED", 0.0)


def test_a_client_that_leaves_takes_the_calls_with_it():
    members = committee((5, answer(0)), (5, answer(1)))

    async def leaving():
        asking = asyncio.create_task(ask_all(members, None, 10.0, 1))
        await asyncio.sleep(0.1)
        asking.cancel()
        await asyncio.wait([asking])
        await asyncio.sleep(0)
        return len(asyncio.all_tasks()) - 1

    assert run(leaving()) == 0
    assert {member.ended for member in members.values()} == {"cancelled"}
