"""A small file system that can be filled: a tmpfs where mounting is allowed, else the process's file size limit."""

import contextlib
import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

_MEGABYTES = 16


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Callable[[], None]]:
    """Mount a small file system on the folder; yield a function that fills it."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={_MEGABYTES}m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True).returncode == 0:
        try:
            yield lambda: _fill(folder)
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
        return
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def _fill(folder: Path) -> None:
    with (folder / ".filler").open("wb", buffering=0) as stream, contextlib.suppress(OSError):
        while True:
            stream.write(bytes(4096))
