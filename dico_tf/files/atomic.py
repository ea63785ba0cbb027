"""Atomic writes: a file or folder is complete or absent, even after a kill, a full disk or a power cut.

Everything is written under a temporary name beside its final path, flushed to the disk, and renamed. If a write fails,
a UserError is raised and the previous file or folder stays.
"""

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from dico_tf.errors import UserError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_REFUSALS = (*_FULL, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically; it replaces an older one."""
    with writing(path) as stream:
        stream.write(content)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically; it replaces an older one."""
    write_bytes(path, text.encode())


@contextlib.contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary binary file; it replaces `path` when the block ends without an error.

    After an error in the block, `path` is as before; an OSError becomes a UserError.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.writing")
    try:
        with beside.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(beside, path)
        sync(path.parent)
    except OSError as error:
        raise _refused(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()


@contextlib.contextmanager
def writing_folder(path: Path) -> Iterator[Path]:
    """Create a temporary folder; it replaces `path` when the block ends without an error.

    After an error in the block, `path` is as before; an OSError becomes a UserError. Only one process at a time may
    write a folder. Readers must open `current(path)`.
    """
    beside = path.with_name(f".{path.name}.writing")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        beside.mkdir(parents=True)
        yield beside
        flush(beside)
        _replace_folder(beside, path)
    except OSError as error:
        shutil.rmtree(beside, ignore_errors=True)
        raise _refused(path, error) from error


def _replace_folder(beside: Path, path: Path) -> None:
    """Rename `path` to an auxiliary name, then `beside` to `path`: a folder cannot replace another in one rename."""
    aside = _aside(path)
    shutil.rmtree(aside, ignore_errors=True)
    if path.exists():
        path.rename(aside)
    beside.rename(path)
    sync(path.parent)
    shutil.rmtree(aside, ignore_errors=True)


def current(path: Path) -> Path:
    """Return `path`, or the previous folder if the writer was killed between its two renames."""
    aside = _aside(path)
    return aside if not path.exists() and aside.exists() else path


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


def _refused(path: Path, error: OSError) -> UserError:
    reason = error.strerror or str(error)
    return UserError(
        f"cannot write {path}: {reason}; what was saved before is intact: {_room(reason)}write to another folder"
    )


def _room(reason: str) -> str:
    """Return the advice to make room if the disk or a quota is full, else ""."""
    return "make room there, or " if reason in map(os.strerror, _FULL) else ""


def refusal(error: Exception) -> str:
    """Return why the system refused a write, such as "No space left on device", or "" for any other error.

    The reason is searched in the error's text, because TensorFlow's errors have it only there.
    """
    if isinstance(error, UserError):
        return ""
    return next((reason for reason in map(os.strerror, _REFUSALS) if reason in str(error)), "")


@contextlib.contextmanager
def refusals(flag: str, folder: Path) -> Iterator[None]:
    """Turn a write error of Python or TensorFlow in this block into a UserError that names --`flag`=`folder`."""
    try:
        yield
    except Exception as error:
        if not (reason := refusal(error)):
            raise
        raise UserError(
            f"cannot write to --{flag}={folder}: {reason}; what was saved before is intact: {_room(reason)}give "
            f"another --{flag}"
        ) from error


def check_writable(folder: Path, flag: str) -> None:
    """Raise a UserError that names --`flag` if files cannot be written to `folder`, which need not exist yet.

    Nothing is created.
    """
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise UserError(
            f"--{flag}={folder} cannot be written: {error.strerror or error}; give another --{flag}"
        ) from None


def flush(folder: Path) -> None:
    """Flush a folder, with everything in it, to the disk."""
    for path in folder.rglob("*"):
        sync(path)
    sync(folder)


def sync(path: Path) -> None:
    """Flush one file, or the list of entries of one folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
