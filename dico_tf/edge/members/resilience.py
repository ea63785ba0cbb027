"""Circuit breaker, call budget and response times: they keep slow or dead addresses from delaying requests."""

import collections
import enum
import math
from collections.abc import Callable

FAILURES = 5  # failures in a row that open the circuit
OPEN_SECONDS = 1.0  # an open circuit ignores probes for this long; doubles after each failed trial
LONGEST_OPEN_SECONDS = 30.0
LARGEST_BUDGET = 10.0  # extra calls that a budget can save up
RECENT_CALLS = 200  # calls whose response times are remembered
FEWEST_FOR_P95 = 20  # calls below which a 95th percentile would be a guess


class CircuitState(enum.Enum):
    CLOSED = "closed"  # all calls are allowed
    OPEN = "open"  # no calls are allowed
    HALF_OPEN = "half-open"  # one trial call at a time is allowed


class CircuitBreaker:
    """Decides whether one address may be called; an address that keeps failing is skipped for a while.

    closed --5 failures in a row--> open --after a pause, a probe succeeds--> half-open --a trial succeeds--> closed.
    A trial call that fails opens the circuit again, for twice as long, up to LONGEST_OPEN_SECONDS. Probes are health
    checks, so no user's request waits for a dead address. `now` is a clock in seconds.
    """

    def __init__(self, now: Callable[[], float]):
        self._now = now
        self._failures = 0
        self._open_seconds = OPEN_SECONDS
        self._opened_at = 0.0
        self._on_trial = False
        self.state = CircuitState.CLOSED

    @property
    def allows_call(self) -> bool:
        return self.state is CircuitState.CLOSED or (self.state is CircuitState.HALF_OPEN and not self._on_trial)

    @property
    def may_recover(self) -> bool:
        """True if the circuit has been open for long enough that a successful probe makes it half-open."""
        return self.state is CircuitState.OPEN and self._now() - self._opened_at >= self._open_seconds

    def start_call(self) -> None:
        self._on_trial = self.state is CircuitState.HALF_OPEN

    def call_succeeded(self) -> None:
        self._failures, self._open_seconds, self._on_trial = 0, OPEN_SECONDS, False
        self.state = CircuitState.CLOSED

    def call_failed(self) -> None:
        self._failures += 1
        self._on_trial = False
        if self.state is CircuitState.HALF_OPEN:
            self._open_seconds = min(2 * self._open_seconds, LONGEST_OPEN_SECONDS)
            self._open()
        elif self.state is CircuitState.CLOSED and self._failures >= FAILURES:
            self._open()

    def call_cancelled(self) -> None:
        """End a call whose result says nothing about the address, such as a cancelled one."""
        self._on_trial = False

    def probe_ended(self, ready: bool) -> None:
        """Use the result of a health check. While the circuit is closed, a failed one counts as a failed call."""
        if self.may_recover and ready:
            self.state = CircuitState.HALF_OPEN
        elif self.state is CircuitState.CLOSED and not ready:
            self.call_failed()

    def _open(self) -> None:
        self.state, self._opened_at = CircuitState.OPEN, self._now()


class CallBudget:
    """A limit on extra calls (hedges and retries), so that they cannot multiply the load.

    The budget starts at `start` calls. An ordinary call adds `share` of a call, an extra call takes one away: n
    ordinary calls allow at most start + share * n extra calls. It saves up no more than LARGEST_BUDGET calls.
    """

    def __init__(self, share: float, start: float = 0.0):
        self._share = share
        self._saved = start

    def earn(self) -> None:
        """Count an ordinary call."""
        self._saved = min(self._saved + self._share, LARGEST_BUDGET)

    def spend(self) -> bool:
        """Take one extra call from the budget; return False if there is none."""
        if self._saved < 1.0:
            return False
        self._saved -= 1.0
        return True


class ResponseTimes:
    """Recent response times of one address."""

    def __init__(self) -> None:
        self._seconds: collections.deque[float] = collections.deque(maxlen=RECENT_CALLS)

    def add(self, seconds: float) -> None:
        self._seconds.append(seconds)

    def p95(self) -> float | None:
        """Return the 95th percentile in seconds, or None after fewer than FEWEST_FOR_P95 calls."""
        count = len(self._seconds)
        return sorted(self._seconds)[math.ceil(0.95 * count) - 1] if count >= FEWEST_FOR_P95 else None
