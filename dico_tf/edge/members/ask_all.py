"""All members are asked at once, and answer by one deadline or not at all."""

import asyncio
import dataclasses
import logging
from collections.abc import Mapping
from typing import Protocol

import numpy as np

from dico_tf.edge.errors import EdgeError
from dico_tf.edge.members.outcome import Cause, Images, Missing, Outcome, Vote, of

log = logging.getLogger(__name__)


class Voter(Protocol):
    async def ask(self, image: np.ndarray, deadline: float) -> Outcome: ...


@dataclasses.dataclass(frozen=True)
class MemberAnswers:
    """In the committee's order, whoever answered first."""

    votes: dict[str, Vote]
    missing: dict[str, Missing]

    @property
    def late(self) -> list[str]:
        return [name for name, missing in self.missing.items() if missing.why is Cause.LATE]


class BelowQuorum(EdgeError):  # noqa: N818 - named for what is the case
    """Too few members answered."""

    def __init__(self, poll: MemberAnswers, quorum: int):
        count, all = len(poll.votes), len(poll.votes) + len(poll.missing)
        reasons = "; ".join(f"{name} {missing.reason}" for name, missing in poll.missing.items())
        super().__init__(_code(poll, quorum), f"{count} of {all} members answered, and {quorum} must: {reasons}")
        self.poll = poll


def _code(poll: MemberAnswers, quorum: int) -> str:
    """What would have made the quorum: more time, or less load, or else members that can be reached."""
    for why, code in ((Cause.LATE, "DEADLINE_EXCEEDED"), (Cause.BUSY, "RESOURCE_EXHAUSTED")):
        helped = sum(missing.why in (why, Cause.DISMISSED) for missing in poll.missing.values())
        if len(poll.votes) + helped >= quorum:
            return code
    return "UNAVAILABLE"


async def ask_all(members: Mapping[str, Voter], images: Images, deadline: float, quorum: int) -> MemberAnswers:
    """Ends when all have answered, the deadline has come, or the quorum is out of reach; raises BelowQuorum."""
    tasks = {name: asyncio.create_task(member.ask(of(images, name), deadline)) for name, member in members.items()}
    try:
        await _settle(set(tasks.values()), deadline, quorum)
        unfinished = Cause.LATE if asyncio.get_running_loop().time() >= deadline else Cause.DISMISSED
        outcomes = {name: _outcome(name, task, unfinished) for name, task in tasks.items()}
    finally:
        for task in tasks.values():
            task.cancel()
    poll = MemberAnswers(
        {name: outcome for name, outcome in outcomes.items() if isinstance(outcome, Vote)},
        {name: outcome for name, outcome in outcomes.items() if isinstance(outcome, Missing)},
    )
    if len(poll.votes) < quorum:
        raise BelowQuorum(poll, quorum)
    return poll


async def _settle(running: set[asyncio.Task[Outcome]], deadline: float, quorum: int) -> None:
    """Returns when there is nothing to wait for any more."""
    now, possible = asyncio.get_running_loop().time, len(running)
    while running and possible >= quorum and (left := deadline - now()) > 0:
        done, running = await asyncio.wait(running, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        possible -= sum(not _answered(task) for task in done)


def _answered(task: asyncio.Task[Outcome]) -> bool:
    return not task.cancelled() and not task.exception() and isinstance(task.result(), Vote)


def _outcome(name: str, task: asyncio.Task[Outcome], unfinished: Cause) -> Outcome:
    if not task.done() or task.cancelled():
        return Missing(unfinished)
    if error := task.exception():  # a fault of ours: the others' answers are still good
        log.error("asking %s failed", name, exc_info=error)
        return Missing(Cause.UNUSABLE, type(error).__name__)
    return task.result()
