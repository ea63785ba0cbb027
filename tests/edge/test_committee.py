"""A committee while members change to a new export: members of the export with fewer votes count as missing."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from dico_tf.edge.gateway import MANIFEST_CHECK_SECONDS, follow_manifest
from dico_tf.edge.members.ask_all import BelowQuorum
from dico_tf.edge.members.committee import CommitteePolicy, RemoteCommittee
from dico_tf.edge.members.outcome import Cause, Missing, Vote
from dico_tf.errors import UserError
from dico_tf.files.manifest import Manifest
from tests.edge import committees
from tests.edge.virtual_time import run

NAMES = [f"branch_{s}" for s in range(4)]


class InstantMember:
    """A member that answers at once with logits that identify its export."""

    def __init__(self, export):
        self.export, self.replicas = export, []

    async def ask(self, image, deadline):
        if not self.export:
            return Missing(Cause.UNREACHABLE)
        return Vote(np.full((1, 5), len(self.export), np.float32), self.export, known="/" not in self.export)


def manifest(export, names=NAMES, **more):
    content = committees.content(names, export=export)
    content["members"] = [{**member, **more} for member in content["members"]]
    return Manifest(Path(), content)


def committee(*exports, quorum=1, mixed=False):
    members = {name: InstantMember(export) for name, export in zip(NAMES, exports, strict=False)}
    remote = RemoteCommittee(
        manifest("old"), ["old"], members, CommitteePolicy(quorum=quorum, seconds=1.0, mixed_exports=mixed)
    )
    remote.switch_export(manifest("newer"))
    return remote


async def ask(remote):
    return await remote.ask(None, remote.deadline())


@pytest.mark.parametrize(
    ("exports", "used"),
    [
        (("old", "old", "old", "newer"), "old"),
        (("old", "newer", "newer", "newer"), "newer"),
        (("old", "old", "newer", "newer"), "newer"),
        (("old", "old", "old", "old"), "old"),
        (("newer", "", "served/42", "old"), "newer"),
        (("forgotten", "forgotten", "newer", "old"), "newer"),
    ],
)
def test_answers_are_of_the_export_that_most_members_have(exports, used):
    answers, answer = run(ask(committee(*exports)))
    assert set(answer.versions.values()) - {"served/42"} == {used}
    assert len(answers.votes) + len(answers.missing) == 4
    others = {name for name, export in zip(NAMES, exports, strict=True) if export not in {used, "served/42", ""}}
    assert {name for name, missing in answers.missing.items() if missing.cause is Cause.FOREIGN} == others


def test_without_a_quorum_of_one_export_there_is_no_answer():
    with pytest.raises(
        BelowQuorum,
        match="2 of 4 members answered, but the quorum is 3: branch_0 is of another export: old, expected newer",
    ):
        run(ask(committee("old", "old", "newer", "newer", quorum=3)))


def test_all_are_averaged_where_exports_may_be_mixed():
    _, answer = run(ask(committee("old", "old", "newer", "newer", quorum=4, mixed=True)))
    assert len(answer.versions) == 4 and answer.logits[0, 0] == 4


def test_the_rule_and_the_classes_are_those_of_the_export_that_answered():
    remote = committee("old", "old", "newer")
    assert [remote.manifest_of(exports).id for exports in (["old"], ["newer"], ["old", "newer"], [])] == [
        "old",
        *["newer"] * 3,
    ]
    remote = committee("old", "", "old")
    remote.manifest.content["committee"]["average"] = "no such rule"
    assert run(ask(remote))[1].logits[0, 0] == 3


def test_an_export_that_came_while_members_started_is_taken(tmp_path):
    """The gateway reads its manifest before it waits for its members, so the manifest may be old by then."""
    path = committees.written(tmp_path, NAMES, export="newest")

    async def story(remote):
        following = asyncio.create_task(follow_manifest(remote, path))
        async with asyncio.timeout(20):
            while remote.manifest.id != "newest":
                await asyncio.sleep(0.01)
        path.write_text("{")  # an unexpected error must not end the task
        path.unlink()
        (tmp_path / "manifest.json").mkdir()
        await asyncio.sleep(2 * MANIFEST_CHECK_SECONDS)
        assert not following.done()
        following.cancel()

    asyncio.run(story(committee()))


def test_only_the_last_two_exports_are_known():
    remote = committee()
    remote.switch_export(manifest("newest"))
    remote.switch_export(manifest("newest"))
    assert remote.exports == ["newest", "newer"]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (manifest("x", NAMES[:2]), "another committee"),
        (manifest("x", input_size=9), "another input_size"),
        (manifest("x", class_names=["a"]), "another number of classes"),
    ],
)
def test_an_export_of_another_form_is_refused(other, message):
    with pytest.raises(UserError, match=f"{message}: restart the gateway"):
        committee().switch_export(other)
