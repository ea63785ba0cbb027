"""One after the other: members that are tables of logits, and a clock that jumps."""

import asyncio
import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dico_tf.committee import words
from dico_tf.committee.confidence import CONFIDENCES
from dico_tf.committee.decision import ALWAYS, NEVER, Committee, decide, ensemble
from dico_tf.edge.members import cascade as cascades
from dico_tf.edge.members import committee as asking
from dico_tf.edge.members.ask_all import BelowQuorum
from dico_tf.edge.members.cascade import ask_in_turn
from dico_tf.edge.members.committee import CommitteePolicy
from dico_tf.edge.members.member_metrics import MemberMetrics
from dico_tf.edge.members.outcome import Cause, Missing, Vote
from dico_tf.edge.server.metrics import Metrics
from dico_tf.errors import UserError
from dico_tf.evaluation.averaging import disagreement, softmax
from dico_tf.files.manifest import Manifest
from tests.committee.generated import pool
from tests.edge import committees
from tests.edge.virtual_time import now, run

POOL = pool(images=60, members=4, classes=5)
LOGITS = POOL.stacked(POOL.members)
NAMES = tuple(f"branch_{s}" for s in range(4))


class Table:
    """Images are numbers of rows; answers after some seconds, or with another outcome."""

    def __init__(self, logits, seconds=0.0, outcome=None, export="one"):
        self.logits, self.seconds, self.outcome, self.export = logits, seconds, outcome, export
        self.asked, self.replicas, self.hedged, self.retried = [], [], 0, 0

    async def ask(self, image, deadline):
        self.asked.append(image.tolist())
        await asyncio.sleep(self.seconds)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome or Vote(self.logits[image], self.export)


def tables(n, logits=LOGITS, **of):
    """`of`: what is other about a member."""
    return {name: Table(logits[:, k], **of.get(name, {})) for k, name in enumerate(NAMES[:n])}


def cascade(n, *gates, **how):
    return Committee(members=NAMES[:n], gates=gates, **how)


def asked(members, committee, rows, deadline=10.0, quorum=1, **more):
    """(votes and reasons, verdict, seconds)."""

    async def whole():
        started = now()
        return *await ask_in_turn(members, committee, np.asarray(rows), started + deadline, quorum, **more), now()

    return run(whole())


gate = st.one_of(st.floats(0.2, 1.0), st.just(NEVER), st.just(ALWAYS))


@given(
    data=st.data(),
    n=st.integers(1, 4),
    name=st.sampled_from(sorted(CONFIDENCES)),
    average=st.sampled_from(["logits", "probs", "max"]),
    tuned=st.booleans(),
)
@settings(max_examples=80, deadline=None)
def test_it_is_what_is_decided_where_all_is_known(data, n, name, average, tuned):
    rows = np.random.default_rng(data.draw(st.integers(0, 9))).permutation(60)[: data.draw(st.integers(1, 30))]
    how = {"weights": (1.0, 3.0, 2.0, 0.5)[:n]} if tuned and average != "max" else {}
    how |= {"temperatures": (1.5, 0.7, 1.0, 2.0)[:n]} if tuned else {}
    committee = cascade(n, *data.draw(st.tuples(*[gate] * (n - 1))), confidence=name, average=average, **how)
    expected, members = decide(committee, LOGITS[rows, :n]), tables(n)
    poll, told, _ = asked(members, committee, rows, quorum=n)
    assert told.stage.tolist() == expected.stage.tolist() and told.class_id.tolist() == expected.classes.tolist()
    assert (told.logits == expected.logits.astype(np.float32)).all() and told.gate_passed
    for k, member in enumerate(members.values()):
        reached = rows[expected.stage >= k].tolist()
        assert member.asked == ([reached] if reached else [])
    assert list(poll.votes) == [name for name, member in members.items() if member.asked] and not poll.missing
    for row, stage, spread in zip(rows, told.stage, told.disagreement, strict=True):
        assert spread == pytest.approx(disagreement(softmax(LOGITS[row : row + 1, : stage + 1]))[0], abs=1e-6)


def test_a_member_that_is_missing_is_passed_over_and_its_gate_not_asked():
    """What the others decide among themselves."""
    committee = cascade(4, 0.5, ALWAYS, 0.9, weights=(1.0, 3.0, 2.0, 0.5), temperatures=(1.5, 0.7, 1.0, 2.0))
    _, told, _ = asked(tables(4, branch_1={"outcome": Missing(Cause.UNREACHABLE)}), committee, range(60))
    others = Committee(members=("a", "b", "c"), gates=(0.5, 0.9), weights=(1.0, 2.0, 0.5), temperatures=(1.5, 1.0, 2.0))
    expected = decide(others, LOGITS[:, [0, 2, 3]])
    assert told.stage.tolist() == np.array([0, 2, 3])[expected.stage].tolist() and len(set(told.stage.tolist())) > 2
    assert told.logits == pytest.approx(expected.logits, rel=1e-6) and told.gate_passed
    assert told.missing == {"branch_1": "cannot be reached"} and list(told.versions) == [NAMES[0], *NAMES[2:]]


def test_a_member_that_hangs_leaves_time_for_those_after_it():
    _, told, seconds = asked(tables(3, branch_0={"seconds": 99.0}), cascade(3, 0.9, 0.9), range(9), deadline=3.0)
    assert told.late == ["branch_0"] and seconds == 1.0  # a third of the time
    assert (told.stage >= 1).all() and told.gate_passed
    _, told, seconds = asked(
        tables(3, branch_0={"seconds": 99.0}, branch_1={"seconds": 99.0}), cascade(3, 0.9, 0.9), range(9), deadline=3.0
    )
    assert told.late == ["branch_0", "branch_1"] and seconds == 2.0 and (told.stage == 2).all()


def test_time_that_a_member_does_not_need_is_left_to_those_after_it():
    committee = cascade(2, NEVER)
    _, told, seconds = asked(
        tables(2, branch_0={"seconds": 0.2}, branch_1={"seconds": 1.7}), committee, [1], deadline=2
    )
    assert (told.stage == 1).all() and seconds == pytest.approx(1.9) and not told.late


def test_at_the_deadline_the_answer_so_far_is_given_and_flagged():
    late = {"branch_1": {"seconds": 99.0}, "branch_2": {"outcome": ValueError("no")}}
    committee = cascade(3, 0.8, 0.8)
    _, told, _ = asked(tables(3, **late), committee, range(60), deadline=3.0)
    expected = decide(cascade(1), LOGITS[:, :1])
    assert (told.stage == 0).all() and told.logits == pytest.approx(expected.logits) and not told.gate_passed
    sure = decide(committee, LOGITS[:, :3]).stage == 0
    assert 0 < sure.sum() < 60 and told.finished.tolist() == sure.tolist()
    assert told.late == ["branch_1"] and "ValueError" in told.missing["branch_2"]


def test_one_answer_that_passes_its_gate_is_enough_whatever_the_quorum():
    gone = {name: {"outcome": Missing(Cause.BUSY)} for name in NAMES[1:]}
    sure = np.flatnonzero(decide(cascade(2, 0.8), LOGITS[:, :2]).stage == 0)
    _, told, _ = asked(tables(4, **gone), cascade(4, 0.8, 0.8, 0.8), sure, quorum=4)
    assert (told.stage == 0).all() and told.gate_passed
    with pytest.raises(BelowQuorum, match="1 of 4 members answered, and 3 must: branch_1 is busy") as error:
        asked(tables(4, **gone), cascade(4, 0.8, 0.8, 0.8), range(60), quorum=3)
    assert error.value.code == "RESOURCE_EXHAUSTED"
    with pytest.raises(BelowQuorum, match="0 of 2 members answered, and 1 must"):
        asked(tables(2, **gone, branch_0={"outcome": Missing(Cause.UNUSABLE)}), cascade(2, 0.0), range(3))


def test_a_quorum_beyond_the_cascade_is_all_of_it():
    assert asked(tables(2), cascade(2, NEVER), range(3), quorum=4)[1].stage.tolist() == [1] * 3


def manifest(export, committee=None, names=NAMES[:3]):
    content = committees.content(names, export=export)
    content["committee"]["cascade"] = committee and words.cascade(committee)
    return Manifest("here", content)


def convened(first, *exports, quorum=1, then=(), **rules):
    members = {
        name: Table(LOGITS[:, k], export=export) for k, (name, export) in enumerate(zip(NAMES, exports, strict=False))
    }
    found = asking.RemoteCommittee(first, [first.id], members, CommitteePolicy(quorum=quorum, seconds=1.0, **rules))
    for each in then:
        found.take(each)
    return found


def verdict(found, rows=range(60)):
    async def whole():
        return await found.ask(np.asarray(rows), found.deadline())

    return run(whole())


def test_the_manifest_says_whether_and_how_they_are_asked():
    committee = cascade(3, 0.8, 0.9)
    _, told = verdict(convened(manifest("one", committee), *["one"] * 3))
    assert told.order == NAMES[:3] and told.stage.tolist() == decide(committee, LOGITS[:, :3]).stage.tolist()
    for found in (manifest("one"), manifest("one", committee)):
        _, told = verdict(convened(found, *["one"] * 3, cascade=found.content["committee"]["cascade"] is None))
        assert told.order == () and (told.stage == 2).all() and told.gate_passed


def test_a_cascade_may_leave_members_out_and_has_its_own_order():
    committee = Committee(members=("branch_2", "branch_0"), gates=(0.9,))
    found = convened(manifest("one", committee), *["one"] * 3)
    _, told = verdict(found)
    assert told.stage.tolist() == decide(committee, LOGITS[:, [2, 0]]).stage.tolist()
    assert not found.members["branch_1"].asked and found.patience == pytest.approx(0.45)


def test_while_members_change_over_gates_are_those_of_the_export_that_answers():
    old, new = cascade(3, 0.6, 0.6), cascade(3, 0.99, 0.99)
    first = manifest("old", old)
    for exports, rules in ((("old",) * 3, old), (("new",) * 3, new)):
        _, told = verdict(convened(first, *exports, then=[manifest("new", new)]))
        assert told.stage.tolist() == decide(rules, LOGITS[:, :3]).stage.tolist()
    poll, told = verdict(convened(first, "old", "new", "old", then=[manifest("new", new)]))
    without = decide(Committee(members=("a", "b"), gates=(0.6,)), LOGITS[:, [0, 2]])
    assert told.stage.tolist() == np.array([0, 2])[without.stage].tolist()
    assert poll.missing["branch_1"].why is Cause.FOREIGN
    assert "new, the committee of old" in told.missing["branch_1"]


@pytest.mark.parametrize("before", [None, Committee(members=NAMES[2::-1], gates=(0.1, 0.1))])
def test_gates_of_other_networks_stop_nobody(before):
    """The export that answers had no cascade, or another order."""
    found = convened(manifest("old", before), *["old"] * 3, then=[manifest("new", cascade(3, 0.1, 0.1))])
    _, told = verdict(found)
    assert (told.stage == 2).all() and told.logits == pytest.approx(decide(ensemble(*NAMES[:3]), LOGITS[:, :3]).logits)


def test_the_same_weights_may_be_given_other_gates():
    found = convened(manifest("one", cascade(3, 0.1, 0.1)), *["one"] * 3)
    assert (verdict(found)[1].stage == 0).all()
    found.take(manifest("one", cascade(3, NEVER, NEVER)))
    assert (verdict(found)[1].stage == 2).all()
    found.take(manifest("one"))
    assert verdict(found)[1].order == ()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"order": ["branch_0", "branch_9"], "gates": [0.5]}, "asks 'branch_9', which is not on its committee"),
        ({"gates": [0.5]}, "cannot be followed: .*1 gates, and it needs 2"),
        ({"confidence": "luck"}, "cannot be followed: unknown confidence"),
    ],
)
def test_a_cascade_that_cannot_be_followed_is_refused(change, said):
    content = manifest("one", cascade(3, 0.5, 0.5)).content
    content["committee"]["cascade"] |= change
    with pytest.raises(UserError, match=said):
        cascades.plan(Manifest("here", content))
    content["committee"]["cascade"] = ["branch_0"]
    with pytest.raises(UserError, match="cannot be followed: order is None"):
        cascades.plan(Manifest("here", content))


def test_closing_keeps_all_but_the_gates():
    committee = cascade(2, 0.5, weights=(1.0, 2.0), temperatures=(2.0, 1.0), confidence="entropy", average="probs")
    assert cascades.closed(committee) == dataclasses.replace(committee, gates=(NEVER,))


def test_exits_are_counted_by_stage():
    committee = cascade(3, 0.8, 0.9)
    found = convened(manifest("one", committee), *["one"] * 3)
    numbers = Metrics()
    tally = MemberMetrics(numbers, found)
    tally.exits(verdict(found)[1])
    stops = np.bincount(decide(committee, LOGITS[:, :3]).stage, minlength=3)
    for stage, count in enumerate(stops):
        assert f'dico_cascade_exits_total{{stage="{stage}",member="branch_{stage}"}} {count}' in numbers.text()
    assert "dico_cascade_unfinished_total 0" in numbers.text()
