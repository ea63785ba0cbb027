"""Circuit breaker, call budget and response times: they keep slow or dead addresses from delaying requests."""

import collections
import enum
import math
from collections.abc import Callable

FAILURES = 5  # in a row, after which the circuit opens
REST = 1.0  # seconds it stays open at least; doubled by every trial that fails
LONGEST_REST = 30.0


class CircuitState(enum.Enum):
    CLOSED = "closed"  # all may pass
    OPEN = "open"  # none
    HALF_OPEN = "half-open"  # one at a time, on trial


class CircuitBreaker:
    """closed --5 failures--> open --rested, and a probe succeeds--> half-open --a trial succeeds--> closed.

    Probes ask only whether the address is ready: no user's request waits for a dead one to find out.
    """

    def __init__(self, now: Callable[[], float]):
        self._now = now
        self._failures = 0
        self._rest = REST
        self._opened = 0.0
        self._on_trial = False
        self.state = CircuitState.CLOSED

    @property
    def passable(self) -> bool:
        return self.state is CircuitState.CLOSED or (self.state is CircuitState.HALF_OPEN and not self._on_trial)

    @property
    def rested(self) -> bool:
        """Open for long enough that a probe is worth it."""
        return self.state is CircuitState.OPEN and self._now() - self._opened >= self._rest

    def enter(self) -> None:
        self._on_trial = self.state is CircuitState.HALF_OPEN

    def succeeded(self) -> None:
        self._failures, self._rest, self._on_trial = 0, REST, False
        self.state = CircuitState.CLOSED

    def failed(self) -> None:
        self._failures += 1
        self._on_trial = False
        if self.state is CircuitState.HALF_OPEN:
            self._rest = min(2 * self._rest, LONGEST_REST)
            self._open()
        elif self.state is CircuitState.CLOSED and self._failures >= FAILURES:
            self._open()

    def withdrawn(self) -> None:
        """What had entered ended without saying anything about the address."""
        self._on_trial = False

    def probed(self, ready: bool) -> None:
        """A probe that fails counts like a request that fails: nobody need ask for a dead address to be found out."""
        if self.rested and ready:
            self.state = CircuitState.HALF_OPEN
        elif self.state is CircuitState.CLOSED and not ready:
            self.failed()

    def _open(self) -> None:
        self.state, self._opened = CircuitState.OPEN, self._now()


MOST = 10.0  # saved up in quiet times


class CallBudget:
    """Every ordinary call earns `share` of an extra one: of n calls at most start + share n are extra."""

    def __init__(self, share: float, start: float = 0.0):
        self._share = share
        self._saved = start

    def earn(self) -> None:
        self._saved = min(self._saved + self._share, MOST)

    def spend(self) -> bool:
        if self._saved < 1.0:
            return False
        self._saved -= 1.0
        return True


LATEST = 200
LEAST = 20  # below which a 95th percentile is a guess


class ResponseTimes:
    def __init__(self) -> None:
        self._seconds: collections.deque[float] = collections.deque(maxlen=LATEST)

    def add(self, seconds: float) -> None:
        self._seconds.append(seconds)

    def p95(self) -> float | None:
        """The smallest that 95 % do not exceed; None until there is enough to tell."""
        count = len(self._seconds)
        return sorted(self._seconds)[math.ceil(0.95 * count) - 1] if count >= LEAST else None
