"""How much of the machine's memory pictures may take."""

import os
import threading
from pathlib import Path

AT_ONCE = 2**30  # bytes of squares up to which all pictures are decoded when the run begins


def limit() -> int:
    """Half of the machine's memory, or of what a container is allowed, in bytes: the network needs the rest."""
    try:
        whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not a POSIX system
        whole = 16 * 2**30
    return min(whole, *_allowed(), *_available()) // 2


def _allowed() -> list[int]:
    try:
        return [int(Path("/sys/fs/cgroup/memory.max").read_text())]
    except (OSError, ValueError):  # no container, or one without a limit: "max"
        return []


def _available() -> list[int]:
    """What other processes leave."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return []
    return [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]


class MemoryBudget:
    """Bytes that several threads share out; what does not fit any more is not taken."""

    def __init__(self, size: int) -> None:
        self.left = size
        self._lock = threading.Lock()

    def take(self, amount: int) -> bool:
        with self._lock:
            fits = amount <= self.left
            self.left = self.left - amount if fits else 0  # once full, nobody need ask again
            return fits
