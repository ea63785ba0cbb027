"""The share of the machine's memory that images may take."""

import os
import threading
from pathlib import Path

AT_ONCE = 2**30  # bytes; a dataset whose squares take no more is decoded as a whole when the run begins


def limit() -> int:
    """Return half of the free memory, or of a container's limit, in bytes: the network needs the rest."""
    try:
        whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not a POSIX system
        whole = 16 * 2**30
    return min(whole, *_container_limit(), *_available()) // 2


def _container_limit() -> list[int]:
    try:
        return [int(Path("/sys/fs/cgroup/memory.max").read_text())]
    except (OSError, ValueError):  # no container, or one without a limit: "max"
        return []


def _available() -> list[int]:
    """Return the bytes that other processes leave, where the system tells."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return []
    return [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]


class MemoryBudget:
    """Thread-safe memory budget, in bytes."""

    def __init__(self, size: int) -> None:
        self.left = size
        self._lock = threading.Lock()

    def take(self, amount: int) -> bool:
        """Take an amount and return True, or return False if it does not fit; the budget is closed from then on."""
        with self._lock:
            fits = amount <= self.left
            self.left = self.left - amount if fits else 0
            return fits
