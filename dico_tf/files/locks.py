"""File locks, which the operating system releases when the process ends."""

from typing import IO

from dico_tf.errors import UserError


def lock(stream: IO) -> None:
    """Lock an open file, without waiting, until it is closed or the process ends.

    Raises:
        BlockingIOError: if another process has the lock.
        UserError: if the operating system has no such locks.
    """
    try:
        import fcntl
    except ModuleNotFoundError:
        raise UserError(
            "training and export need a system with fcntl, such as Linux or macOS: on Windows, use WSL"
        ) from None
    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
