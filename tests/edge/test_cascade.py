"""Cascades over the network: members are tables of logits, and the clock is virtual."""

import asyncio
import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dico_tf.committee import serialization
from dico_tf.committee.decision import ALWAYS, NEVER, Committee, decide, ensemble
from dico_tf.edge.members import cascade as cascades
from dico_tf.edge.members.ask_all import BelowQuorum
from dico_tf.edge.members.cascade import ask_in_turn
from dico_tf.edge.members.committee import CommitteePolicy, RemoteCommittee
from dico_tf.edge.members.member_metrics import MemberMetrics
from dico_tf.edge.members.outcome import Cause, Missing, Vote
from dico_tf.edge.server.metrics import Metrics
from dico_tf.errors import UserError
from dico_tf.evaluation.averaging import disagreement, softmax
from dico_tf.files.manifest import Manifest
from dico_tf.formulas.averages import AVERAGES
from dico_tf.formulas.confidences import CONFIDENCES
from tests.committee.generated import pool
from tests.edge import committees
from tests.edge.virtual_time import now, run

POOL = pool(images=60, members=4, classes=5)
LOGITS = POOL.stacked(POOL.members)
NAMES = tuple(f"branch_{s}" for s in range(4))


class Table:
    """Images are metrics of rows; answers after some seconds, or with another outcome."""

    def __init__(self, logits, seconds=0.0, outcome=None, export="one"):
        self.logits, self.seconds, self.outcome, self.export = logits, seconds, outcome, export
        self.calls, self.replicas, self.hedged, self.retried = [], [], 0, 0

    async def ask(self, image, deadline):
        self.calls.append(image.tolist())
        await asyncio.sleep(self.seconds)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome or Vote(self.logits[image], self.export)


def tables(n, logits=LOGITS, **of):
    """Make n members; `of` gives {name: arguments of Table}."""
    return {name: Table(logits[:, k], **of.get(name, {})) for k, name in enumerate(NAMES[:n])}


def cascade(n, *gates, **how):
    return Committee(members=NAMES[:n], gates=gates, **how)


def run_cascade(members, committee, rows, deadline=10.0, quorum=1, **more):
    """Return (members' answers, combined answer, seconds)."""

    async def whole():
        started = now()
        return *await ask_in_turn(members, committee, np.asarray(rows), started + deadline, quorum, **more), now()

    return run(whole())


gate = st.one_of(st.floats(0.2, 1.0), st.just(NEVER), st.just(ALWAYS))


@given(
    data=st.data(),
    n=st.integers(1, 4),
    name=st.sampled_from(sorted(CONFIDENCES)),
    average=st.sampled_from(sorted(AVERAGES)),
    tuned=st.booleans(),
)
@settings(max_examples=80, deadline=None)
def test_the_answer_equals_decide_on_all_logits(data, n, name, average, tuned):
    rows = np.random.default_rng(data.draw(st.integers(0, 9))).permutation(60)[: data.draw(st.integers(1, 30))]
    how = {"weights": (1.0, 3.0, 2.0, 0.5)[:n]} if tuned and AVERAGES[average].weighted else {}
    how |= {"temperatures": (1.5, 0.7, 1.0, 2.0)[:n]} if tuned else {}
    committee = cascade(n, *data.draw(st.tuples(*[gate] * (n - 1))), confidence=name, average=average, **how)
    expected, members = decide(committee, LOGITS[rows, :n]), tables(n)
    answers, answer, _ = run_cascade(members, committee, rows, quorum=n)
    assert answer.stage.tolist() == expected.stage.tolist() and answer.class_id.tolist() == expected.classes.tolist()
    assert (answer.logits == expected.logits.astype(np.float32)).all() and answer.gate_passed
    for k, member in enumerate(members.values()):
        reached = rows[expected.stage >= k].tolist()
        assert member.calls == ([reached] if reached else [])
    assert list(answers.votes) == [name for name, member in members.items() if member.calls] and not answers.missing
    for row, stage, spread in zip(rows, answer.stage, answer.disagreement, strict=True):
        assert spread == pytest.approx(disagreement(softmax(LOGITS[row : row + 1, : stage + 1]))[0], abs=1e-6)


def test_a_missing_member_and_its_gate_are_skipped():
    committee = cascade(4, 0.5, ALWAYS, 0.9, weights=(1.0, 3.0, 2.0, 0.5), temperatures=(1.5, 0.7, 1.0, 2.0))
    _, answer, _ = run_cascade(tables(4, branch_1={"outcome": Missing(Cause.UNREACHABLE)}), committee, range(60))
    others = Committee(members=("a", "b", "c"), gates=(0.5, 0.9), weights=(1.0, 2.0, 0.5), temperatures=(1.5, 1.0, 2.0))
    expected = decide(others, LOGITS[:, [0, 2, 3]])
    assert answer.stage.tolist() == np.array([0, 2, 3])[expected.stage].tolist() and len(set(answer.stage.tolist())) > 2
    assert answer.logits == pytest.approx(expected.logits, rel=1e-6) and answer.gate_passed
    assert answer.missing == {"branch_1": "cannot be reached"} and list(answer.versions) == [NAMES[0], *NAMES[2:]]


def test_a_member_that_hangs_leaves_time_for_the_members_after_it():
    _, answer, seconds = run_cascade(
        tables(3, branch_0={"seconds": 99.0}), cascade(3, 0.9, 0.9), range(9), deadline=3.0
    )
    assert answer.late == ["branch_0"] and seconds == 1.0  # a third of the time
    assert (answer.stage >= 1).all() and answer.gate_passed
    _, answer, seconds = run_cascade(
        tables(3, branch_0={"seconds": 99.0}, branch_1={"seconds": 99.0}), cascade(3, 0.9, 0.9), range(9), deadline=3.0
    )
    assert answer.late == ["branch_0", "branch_1"] and seconds == 2.0 and (answer.stage == 2).all()


def test_time_that_a_member_does_not_use_goes_to_the_members_after_it():
    committee = cascade(2, NEVER)
    _, answer, seconds = run_cascade(
        tables(2, branch_0={"seconds": 0.2}, branch_1={"seconds": 1.7}), committee, [1], deadline=2
    )
    assert (answer.stage == 1).all() and seconds == pytest.approx(1.9) and not answer.late


def test_at_the_deadline_the_answer_so_far_is_given_and_flagged():
    late = {"branch_1": {"seconds": 99.0}, "branch_2": {"outcome": ValueError("no")}}
    committee = cascade(3, 0.8, 0.8)
    _, answer, _ = run_cascade(tables(3, **late), committee, range(60), deadline=3.0)
    expected = decide(cascade(1), LOGITS[:, :1])
    assert (answer.stage == 0).all() and answer.logits == pytest.approx(expected.logits) and not answer.gate_passed
    sure = decide(committee, LOGITS[:, :3]).stage == 0
    assert 0 < sure.sum() < 60 and answer.finished.tolist() == sure.tolist()
    assert answer.late == ["branch_1"] and "ValueError" in answer.missing["branch_2"]


def test_an_image_that_passes_a_gate_needs_no_quorum():
    gone = {name: {"outcome": Missing(Cause.BUSY)} for name in NAMES[1:]}
    sure = np.flatnonzero(decide(cascade(2, 0.8), LOGITS[:, :2]).stage == 0)
    _, answer, _ = run_cascade(tables(4, **gone), cascade(4, 0.8, 0.8, 0.8), sure, quorum=4)
    assert (answer.stage == 0).all() and answer.gate_passed
    with pytest.raises(BelowQuorum, match="1 of 4 members answered, but the quorum is 3: branch_1 is busy") as error:
        run_cascade(tables(4, **gone), cascade(4, 0.8, 0.8, 0.8), range(60), quorum=3)
    assert error.value.code == "RESOURCE_EXHAUSTED"
    with pytest.raises(BelowQuorum, match="0 of 2 members answered, but the quorum is 1"):
        run_cascade(tables(2, **gone, branch_0={"outcome": Missing(Cause.UNUSABLE)}), cascade(2, 0.0), range(3))


def test_a_quorum_larger_than_the_cascade_means_all_its_members():
    assert run_cascade(tables(2), cascade(2, NEVER), range(3), quorum=4)[1].stage.tolist() == [1] * 3


def manifest(export, committee=None, names=NAMES[:3]):
    content = committees.content(names, export=export)
    content["committee"]["cascade"] = committee and serialization.cascade(committee)
    return Manifest("here", content)


def convened(first, *exports, quorum=1, then=(), **rules):
    members = {
        name: Table(LOGITS[:, k], export=export) for k, (name, export) in enumerate(zip(NAMES, exports, strict=False))
    }
    remote = RemoteCommittee(first, [first.id], members, CommitteePolicy(quorum=quorum, seconds=1.0, **rules))
    for each in then:
        remote.switch_export(each)
    return remote


def ask(remote, rows=range(60)):
    async def whole():
        return await remote.ask(np.asarray(rows), remote.deadline())

    return run(whole())


def test_the_manifest_decides_the_cascade():
    committee = cascade(3, 0.8, 0.9)
    _, answer = ask(convened(manifest("one", committee), *["one"] * 3))
    assert answer.order == NAMES[:3] and answer.stage.tolist() == decide(committee, LOGITS[:, :3]).stage.tolist()
    for export in (manifest("one"), manifest("one", committee)):
        _, answer = ask(convened(export, *["one"] * 3, cascade=export.content["committee"]["cascade"] is None))
        assert answer.order == () and (answer.stage == 2).all() and answer.gate_passed


def test_a_cascade_may_leave_members_out_and_has_its_own_order():
    committee = Committee(members=("branch_2", "branch_0"), gates=(0.9,))
    remote = convened(manifest("one", committee), *["one"] * 3)
    _, answer = ask(remote)
    assert answer.stage.tolist() == decide(committee, LOGITS[:, [2, 0]]).stage.tolist()
    assert not remote.members["branch_1"].calls and remote.member_seconds == pytest.approx(0.45)


def test_while_members_change_over_gates_are_those_of_the_export_that_answers():
    old, new = cascade(3, 0.6, 0.6), cascade(3, 0.99, 0.99)
    first = manifest("old", old)
    for exports, rules in ((("old",) * 3, old), (("new",) * 3, new)):
        _, answer = ask(convened(first, *exports, then=[manifest("new", new)]))
        assert answer.stage.tolist() == decide(rules, LOGITS[:, :3]).stage.tolist()
    answers, answer = ask(convened(first, "old", "new", "old", then=[manifest("new", new)]))
    without = decide(Committee(members=("a", "b"), gates=(0.6,)), LOGITS[:, [0, 2]])
    assert answer.stage.tolist() == np.array([0, 2])[without.stage].tolist()
    assert answers.missing["branch_1"].cause is Cause.FOREIGN
    assert "new, expected old" in answer.missing["branch_1"]


def test_an_answer_of_one_export_stays_so_when_the_export_changes_twice_in_one_request():
    never = cascade(3, NEVER, NEVER)
    remote = convened(manifest("old", never), "old", "newest", "newest")
    second = remote.members["branch_1"].ask

    async def ask_while_the_export_changes(image, deadline):
        answer = await second(image, deadline)
        for export in ("new", "newest"):
            remote.switch_export(manifest(export, never))
        return answer

    remote.members["branch_1"].ask = ask_while_the_export_changes
    answers, answer = ask(remote)
    assert {name: missing.cause for name, missing in answers.missing.items()} == dict.fromkeys(
        ("branch_1", "branch_2"), Cause.FOREIGN
    )
    assert answer.logits == pytest.approx(decide(ensemble("branch_0"), LOGITS[:, :1]).logits)


@pytest.mark.parametrize("before", [None, Committee(members=NAMES[2::-1], gates=(0.1, 0.1))])
def test_gates_of_other_networks_are_not_used(before):
    """The export that answers has no cascade, or another order."""
    remote = convened(manifest("old", before), *["old"] * 3, then=[manifest("new", cascade(3, 0.1, 0.1))])
    _, answer = ask(remote)
    assert (answer.stage == 2).all() and answer.logits == pytest.approx(
        decide(ensemble(*NAMES[:3]), LOGITS[:, :3]).logits
    )


def test_the_same_weights_may_get_other_gates():
    remote = convened(manifest("one", cascade(3, 0.1, 0.1)), *["one"] * 3)
    assert (ask(remote)[1].stage == 0).all()
    remote.switch_export(manifest("one", cascade(3, NEVER, NEVER)))
    assert (ask(remote)[1].stage == 2).all()
    remote.switch_export(manifest("one"))
    assert ask(remote)[1].order == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"order": ["branch_0", "branch_9"], "gates": [0.5]}, "'branch_9' is not a member of its committee"),
        ({"gates": [0.5]}, "is invalid: .*expected 2 gates, .* got 1"),
        ({"confidence": "luck"}, "is invalid: unknown confidence"),
    ],
)
def test_an_invalid_cascade_is_refused(change, message):
    content = manifest("one", cascade(3, 0.5, 0.5)).content
    content["committee"]["cascade"] |= change
    with pytest.raises(UserError, match=message):
        cascades.load_cascade(Manifest("here", content))
    content["committee"]["cascade"] = ["branch_0"]
    with pytest.raises(UserError, match="is invalid: order must be a list, got None"):
        cascades.load_cascade(Manifest("here", content))


def test_without_gates_changes_only_the_gates():
    committee = cascade(2, 0.5, weights=(1.0, 2.0), temperatures=(2.0, 1.0), confidence="entropy", average="probs")
    assert cascades.without_gates(committee) == dataclasses.replace(committee, gates=(NEVER,))


def test_images_are_counted_by_stage():
    committee = cascade(3, 0.8, 0.9)
    remote = convened(manifest("one", committee), *["one"] * 3)
    metrics = Metrics()
    member_metrics = MemberMetrics(metrics, remote)
    member_metrics.count_stages(ask(remote)[1])
    stops = np.bincount(decide(committee, LOGITS[:, :3]).stage, minlength=3)
    for stage, count in enumerate(stops):
        assert f'dico_cascade_exits_total{{stage="{stage}",member="branch_{stage}"}} {count}' in metrics.text()
    assert "dico_cascade_unfinished_total 0" in metrics.text()
