"""One member of the committee, at one address or several: hedged, and asked again where nothing was heard."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from dico_tf.edge.members.outcome import Cause, Missing, Outcome, Vote
from dico_tf.edge.members.resilience import MOST, CallBudget, CircuitBreaker

RETRIES = 0.1  # of the calls; a committee that is down must not be asked twice as often
PAUSE = 0.02  # seconds before the same address is asked again; doubled each time
HEDGES = 0.05


class Endpoint(Protocol):
    """An address as a member sees it."""

    breaker: CircuitBreaker

    async def ask(self, image: np.ndarray, deadline: float) -> Outcome: ...
    def patience(self) -> float | None: ...


class RemoteMember:
    """Its first address whose circuit is closed is asked; the others are replicas of it."""

    def __init__(self, replicas: Sequence[Endpoint], hedges: float = HEDGES):
        self.replicas = replicas
        self.hedged = self.retried = 0
        self._hedges = CallBudget(hedges)
        self._retries = CallBudget(RETRIES, start=MOST)

    async def ask(self, image: np.ndarray, deadline: float) -> Outcome:
        """The first usable answer, or why there is none; never raises but for cancellation."""
        self._hedges.earn()
        self._retries.earn()
        race = Race(image, deadline)
        try:
            return await self._run(race)
        finally:
            race.stop()

    async def _run(self, race: "Race") -> Outcome:
        outcome: Outcome = Missing(Cause.RESTING)
        pause = PAUSE
        while address := self._next(race):
            race.start(address)
            outcome = await race.first(address.patience() if self._next(race) else None)
            if outcome is None:
                self._hedge(race)
                outcome = await race.first(None)
            if not self._worth_another(outcome, race.left(), pause):
                break
            self.retried += 1
            if not self._next(race):
                await asyncio.sleep(pause)
                pause, race.asked = 2 * pause, []
        return outcome

    def _next(self, race: "Race") -> Endpoint | None:
        return next((r for r in self.replicas if r.breaker.passable and r not in race.asked), None)

    def _hedge(self, race: "Race") -> None:
        """The slowest 5 % are asked of a replica as well, as far as the budget goes."""
        replica = self._next(race)
        if replica and self._hedges.spend():
            self.hedged += 1
            race.start(replica)

    def _worth_another(self, outcome: Outcome, left: float, pause: float) -> bool:
        gone = isinstance(outcome, Missing) and outcome.why is Cause.UNREACHABLE
        return gone and left > pause and self._retries.spend()


class Race:
    """The calls under way for one request to one member."""

    def __init__(self, image: np.ndarray, deadline: float):
        self._image, self._deadline = image, deadline
        self._running: set[asyncio.Task[Outcome]] = set()
        self.asked: list[Endpoint] = []

    def left(self) -> float:
        return self._deadline - asyncio.get_running_loop().time()

    def start(self, address: Endpoint) -> None:
        self.asked.append(address)
        self._running.add(asyncio.create_task(address.ask(self._image, self._deadline)))

    async def first(self, patience: float | None) -> Outcome | None:
        """The first answer, or how the last call failed; None where `patience` seconds brought neither."""
        outcome = None
        while self._running and not isinstance(outcome, Vote):
            done, self._running = await asyncio.wait(
                self._running, timeout=patience, return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                return None
            outcomes = [task.result() for task in done]
            outcome = next((each for each in outcomes if isinstance(each, Vote)), outcomes[0])
        return outcome

    def stop(self) -> None:
        for task in self._running:
            task.cancel()
