"""A member at one or several addresses: slow calls are hedged, and calls to unreachable addresses are retried."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from dico_tf.edge.members.outcome import Cause, Missing, Outcome, Vote
from dico_tf.edge.members.resilience import LARGEST_BUDGET, CallBudget, CircuitBreaker

RETRY_SHARE = 0.1  # of the calls: retries must not double the load of a committee that is down
FIRST_PAUSE = 0.02  # seconds before the same address is tried again; doubles each time
HEDGE_SHARE = 0.05


class Endpoint(Protocol):
    """One address of a member; `Replica` documents its methods."""

    breaker: CircuitBreaker

    async def ask(self, image: np.ndarray, deadline: float) -> Outcome: ...
    def hedge_after(self) -> float | None: ...


class RemoteMember:
    """A member of a committee at one or several addresses.

    A call goes to the first address whose circuit allows it. If it has not answered within the time that 95 % of its
    own recent calls took, the next address is asked too (a hedge). A call to an unreachable address is repeated at the
    next one, or, after the last, from the first again after a pause (a retry). Retries are limited to about a tenth of
    the calls, hedges to `hedge_share`.

    Args:
        replicas: all addresses of the member; the first one is preferred.
        hedge_share: share of the calls that may be hedged.
    """

    def __init__(self, replicas: Sequence[Endpoint], hedge_share: float = HEDGE_SHARE):
        self.replicas = replicas
        self.hedged = self.retried = 0
        self._hedges = CallBudget(hedge_share)
        self._retries = CallBudget(RETRY_SHARE, start=LARGEST_BUDGET)

    async def ask(self, image: np.ndarray, deadline: float) -> Outcome:
        """Return the first usable vote, or the cause why there is none; the deadline is on the event loop's clock."""
        self._hedges.earn()
        self._retries.earn()
        race = Race(image, deadline)
        try:
            return await self._run(race)
        finally:
            race.stop()

    async def _run(self, race: "Race") -> Outcome:
        outcome: Outcome = Missing(Cause.RESTING)
        pause = FIRST_PAUSE
        while endpoint := self._next(race):
            race.start(endpoint)
            outcome = await race.first(endpoint.hedge_after() if self._next(race) else None)
            if outcome is None:
                self._hedge(race)
                outcome = await race.first(None)
            if not self._may_retry(outcome, race.remaining(), pause):
                break
            self.retried += 1
            if not self._next(race):
                await asyncio.sleep(pause)
                pause, race.tried = 2 * pause, []
        return outcome

    def _next(self, race: "Race") -> Endpoint | None:
        return next((r for r in self.replicas if r.breaker.allows_call and r not in race.tried), None)

    def _hedge(self, race: "Race") -> None:
        """Ask the next address as well, if the budget allows it; about the slowest 5 % of the calls come here."""
        replica = self._next(race)
        if replica and self._hedges.spend():
            self.hedged += 1
            race.start(replica)

    def _may_retry(self, outcome: Outcome, remaining: float, pause: float) -> bool:
        unreachable = isinstance(outcome, Missing) and outcome.cause is Cause.UNREACHABLE
        return unreachable and remaining > pause and self._retries.spend()


class Race:
    """The parallel calls to one member for one request; the first vote wins."""

    def __init__(self, image: np.ndarray, deadline: float):
        self._image, self._deadline = image, deadline
        self._running: set[asyncio.Task[Outcome]] = set()
        self.tried: list[Endpoint] = []

    def remaining(self) -> float:
        """Return the seconds until the deadline."""
        return self._deadline - asyncio.get_running_loop().time()

    def start(self, endpoint: Endpoint) -> None:
        self.tried.append(endpoint)
        self._running.add(asyncio.create_task(endpoint.ask(self._image, self._deadline)))

    async def first(self, timeout: float | None) -> Outcome | None:
        """Return the first vote, or a failure once all calls have failed.

        Returns None after `timeout` seconds in which no call ended: each failed call starts the wait again.
        timeout=None waits without limit.
        """
        outcome = None
        while self._running and not isinstance(outcome, Vote):
            done, self._running = await asyncio.wait(
                self._running, timeout=timeout, return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                return None
            outcomes = [task.result() for task in done]
            outcome = next((each for each in outcomes if isinstance(each, Vote)), outcomes[0])
        return outcome

    def stop(self) -> None:
        for task in self._running:
            task.cancel()
