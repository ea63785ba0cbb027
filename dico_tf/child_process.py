"""Child processes that run this program's modules, and that Linux ends when this process ends."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

PYTHON = (sys.executable, "-P", "-m")  # runs a module; -P: import nothing from the current folder
_PR_SET_PDEATHSIG = 1  # option of Linux's prctl: a signal to the child when its parent ends


def start(
    command: Sequence[str],
    *,
    end_signal: int = signal.SIGKILL,
    environment: Mapping[str, str] | None = None,
    **options: Any,
) -> subprocess.Popen:
    """Start a child process. Ctrl-C does not reach it, so that this process decides when it ends.

    Args:
        command: program and arguments.
        end_signal: the signal that Linux sends to it when this process ends.
        environment: variables that it has in addition to those of this process.
        options: of `subprocess.Popen`, such as stdout.
    """
    parent = os.getpid()
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None

    def end_with_parent() -> None:
        if libc:
            libc.prctl(_PR_SET_PDEATHSIG, end_signal)
        if os.getppid() != parent:  # the parent ended before prctl was called
            os._exit(1)

    # The child finds the same modules as this process, even if the package is not installed.
    path = os.pathsep.join(os.path.abspath(path) for path in sys.path)
    variables = {**os.environ, **(environment or {}), "PYTHONPATH": path}
    return subprocess.Popen(command, start_new_session=True, preexec_fn=end_with_parent, env=variables, **options)
