"""Whether an address may be asked: one that keeps failing is left alone, so that nobody waits for it."""

import enum
from collections.abc import Callable

FAILURES = 5  # in a row, after which the circuit opens
REST = 1.0  # seconds it stays open at least; doubled by every trial that fails
LONGEST_REST = 30.0


class State(enum.Enum):
    CLOSED = "closed"  # all may pass
    OPEN = "open"  # none
    HALF_OPEN = "half-open"  # one at a time, on trial


class Breaker:
    """closed --5 failures--> open --rested, and a probe succeeds--> half-open --a trial succeeds--> closed.

    Probes ask only whether the address is ready: no user's request waits for a dead one to find out.
    """

    def __init__(self, now: Callable[[], float]):
        self._now = now
        self._failures = 0
        self._rest = REST
        self._opened = 0.0
        self._on_trial = False
        self.state = State.CLOSED

    @property
    def passable(self) -> bool:
        return self.state is State.CLOSED or (self.state is State.HALF_OPEN and not self._on_trial)

    @property
    def rested(self) -> bool:
        """Open for long enough that a probe is worth it."""
        return self.state is State.OPEN and self._now() - self._opened >= self._rest

    def enter(self) -> None:
        self._on_trial = self.state is State.HALF_OPEN

    def succeeded(self) -> None:
        self._failures, self._rest, self._on_trial = 0, REST, False
        self.state = State.CLOSED

    def failed(self) -> None:
        self._failures += 1
        self._on_trial = False
        if self.state is State.HALF_OPEN:
            self._rest = min(2 * self._rest, LONGEST_REST)
            self._open()
        elif self.state is State.CLOSED and self._failures >= FAILURES:
            self._open()

    def withdrawn(self) -> None:
        """What had entered ended without saying anything about the address."""
        self._on_trial = False

    def probed(self, ready: bool) -> None:
        """A probe that fails counts like a request that fails: nobody need ask for a dead address to be found out."""
        if self.rested and ready:
            self.state = State.HALF_OPEN
        elif self.state is State.CLOSED and not ready:
            self.failed()

    def _open(self) -> None:
        self.state, self._opened = State.OPEN, self._now()
