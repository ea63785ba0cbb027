"""How long an address takes, as lately seen."""

import collections
import math

LATEST = 200
LEAST = 20  # below which a 95th percentile is a guess


class Latencies:
    def __init__(self) -> None:
        self._seconds: collections.deque[float] = collections.deque(maxlen=LATEST)

    def add(self, seconds: float) -> None:
        self._seconds.append(seconds)

    def p95(self) -> float | None:
        """The smallest that 95 % do not exceed; None until there is enough to tell."""
        count = len(self._seconds)
        return sorted(self._seconds)[math.ceil(0.95 * count) - 1] if count >= LEAST else None
