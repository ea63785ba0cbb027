"""The share of the machine's memory that images may take."""

import os
import threading
from pathlib import Path

AT_ONCE = 2**30  # bytes; a dataset whose squares take no more is decoded as a whole when the run begins


def limit() -> int:
    """Return the bytes that images may take: half of the free memory, or half of the container's limit if that is less.

    The network needs the other half. If the system does not tell its free memory, all its memory counts as free; if it
    tells neither, 16 GiB count as free.
    """
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
    """Return [bytes that other processes leave], or [] if the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return []
    return [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]


class MemoryBudget:
    """Thread-safe memory budget of `size` bytes. Bytes that are taken are not given back."""

    def __init__(self, size: int) -> None:
        self.left = size
        self._lock = threading.Lock()

    def take(self, amount: int) -> bool:
        """Take `amount` bytes and return True. If they do not fit, return False, as all calls after this one do."""
        with self._lock:
            fits = amount <= self.left
            self.left = self.left - amount if fits else 0
            return fits
