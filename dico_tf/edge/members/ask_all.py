"""Ask all members at once: they answer by one deadline or count as late."""

import asyncio
import dataclasses
import logging
from collections.abc import Mapping
from typing import Protocol

import numpy as np

from dico_tf.edge.errors import EdgeError
from dico_tf.edge.members.outcome import Cause, Images, Missing, Outcome, Vote, images_of

LOG = logging.getLogger(__name__)


class Voter(Protocol):
    """Anything that answers images with a vote, e.g. a RemoteMember."""

    async def ask(self, image: np.ndarray, deadline: float) -> Outcome: ...


@dataclasses.dataclass(frozen=True)
class MemberAnswers:
    """Votes, and causes of missing votes, by member, in the order in which members were asked."""

    votes: dict[str, Vote]
    missing: dict[str, Missing]

    @property
    def late(self) -> list[str]:
        return [name for name, missing in self.missing.items() if missing.cause is Cause.LATE]


class BelowQuorum(EdgeError):  # noqa: N818 - named for what is the case
    """Too few members answered; `answers` has the votes that came, and the causes of the missing ones."""

    def __init__(self, answers: MemberAnswers, quorum: int):
        count, all = len(answers.votes), len(answers.votes) + len(answers.missing)
        reasons = "; ".join(f"{name} {missing.reason}" for name, missing in answers.missing.items())
        super().__init__(
            _code(answers, quorum), f"{count} of {all} members answered, but the quorum is {quorum}: {reasons}"
        )
        self.answers = answers


def _code(answers: MemberAnswers, quorum: int) -> str:
    """Return the status code that tells the client what would help: more time, less load, or reachable members."""
    for cause, code in ((Cause.LATE, "DEADLINE_EXCEEDED"), (Cause.BUSY, "RESOURCE_EXHAUSTED")):
        helped = sum(missing.cause in (cause, Cause.DISMISSED) for missing in answers.missing.values())
        if len(answers.votes) + helped >= quorum:
            return code
    return "UNAVAILABLE"


async def ask_all(members: Mapping[str, Voter], images: Images, deadline: float, quorum: int) -> MemberAnswers:
    """Ask all members at once and return their answers; the deadline is on the event loop's clock.

    Ends when all have answered, at the deadline, or when the quorum cannot be reached any more. Raises BelowQuorum.
    """
    tasks = {
        name: asyncio.create_task(member.ask(images_of(images, name), deadline)) for name, member in members.items()
    }
    try:
        await _settle(set(tasks.values()), deadline, quorum)
        unfinished = Cause.LATE if asyncio.get_running_loop().time() >= deadline else Cause.DISMISSED
        outcomes = {name: _outcome(name, task, unfinished) for name, task in tasks.items()}
    finally:
        for task in tasks.values():
            task.cancel()
    answers = MemberAnswers(
        {name: outcome for name, outcome in outcomes.items() if isinstance(outcome, Vote)},
        {name: outcome for name, outcome in outcomes.items() if isinstance(outcome, Missing)},
    )
    if len(answers.votes) < quorum:
        raise BelowQuorum(answers, quorum)
    return answers


async def _settle(running: set[asyncio.Task[Outcome]], deadline: float, quorum: int) -> None:
    """Return as soon as waiting longer could not change the result."""
    now, possible = asyncio.get_running_loop().time, len(running)
    while running and possible >= quorum and (remaining := deadline - now()) > 0:
        done, running = await asyncio.wait(running, timeout=remaining, return_when=asyncio.FIRST_COMPLETED)
        possible -= sum(not _voted(task) for task in done)


def _voted(task: asyncio.Task[Outcome]) -> bool:
    return not task.cancelled() and not task.exception() and isinstance(task.result(), Vote)


def _outcome(name: str, task: asyncio.Task[Outcome], unfinished: Cause) -> Outcome:
    if not task.done() or task.cancelled():
        return Missing(unfinished)
    if error := task.exception():  # a bug of ours: the other members' answers are still good
        LOG.error("asking %s failed with an unexpected error", name, exc_info=error)
        return Missing(Cause.UNUSABLE, type(error).__name__)
    return task.result()
