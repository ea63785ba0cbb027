"""Estimate of the time that the remaining runs of a comparison take."""

import statistics
from collections.abc import Mapping, Sequence

from dico_tf.compare.plan import ArmRun


class RemainingTime:
    """Estimates the remaining time from the runs that have finished in this process.

    Args:
        jobs: number of runs at once.
    """

    def __init__(self, jobs: int):
        self.jobs = jobs
        self._seconds: dict[str, list[float]] = {}

    def add(self, run: ArmRun, seconds: float) -> None:
        """Record how long a run took."""
        self._seconds.setdefault(run.arm, []).append(seconds)

    def seconds(self, left: Sequence[ArmRun], running: Mapping[ArmRun, float]) -> float | None:
        """Return the estimate, or None before the first run has finished.

        A run takes as long as the mean of its arm's runs, or of all runs if its arm has none.

        Args:
            left: unfinished runs.
            running: those of them that run, with the seconds since their start.
        """
        if not self._seconds:
            return None
        overall = statistics.fmean(value for values in self._seconds.values() for value in values)
        means = {arm: statistics.fmean(values) for arm, values in self._seconds.items()}
        each = [max(means.get(run.arm, overall) - running.get(run, 0.0), 0.0) for run in left]
        return max(sum(each) / self.jobs, max(each, default=0.0))

    def text(self, left: Sequence[ArmRun], running: Mapping[ArmRun, float]) -> str:
        """Return e.g. ", about 4 min left", or "" if nothing is known, or nothing left by the estimate."""
        seconds = self.seconds(left, running)
        return f", about {duration(seconds)} left" if left and seconds else ""


def duration(seconds: float) -> str:
    """Return a time for people: 41 s, 12 min, 3.5 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"
