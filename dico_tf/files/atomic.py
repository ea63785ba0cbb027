"""Write files and folders that are whole or absent, also after a kill, a full disk or a power cut.

Everything is written beside its final path, flushed to the disk, and renamed; then the rename itself is flushed.
A write that the disk refuses raises UserError and leaves what was there before.
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

_REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)


def write_bytes(path: Path, content: bytes) -> None:
    with writing(path) as stream:
        stream.write(content)


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode())


@contextlib.contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """Open a file to write; it takes the place of `path` when the block ends without an error."""
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
    """Make an empty folder to fill; it takes the place of `path` when the block ends without an error.

    Only one process may write a folder at a time. Read it through `current`.
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
    """Rename `path` aside first, as a folder cannot replace a folder; `current` knows the state in between."""
    aside = _aside(path)
    shutil.rmtree(aside, ignore_errors=True)
    if path.exists():
        path.rename(aside)
    beside.rename(path)
    sync(path.parent)
    shutil.rmtree(aside, ignore_errors=True)


def current(path: Path) -> Path:
    """Return `path`, or the folder renamed aside for it if the writer was killed between its two renames."""
    aside = _aside(path)
    return aside if not path.exists() and aside.exists() else path


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


def _refused(path: Path, error: OSError) -> UserError:
    return UserError(
        f"cannot write {path}: {error.strerror or error}; what was saved before is intact: "
        "make room there, or write to another folder"
    )


def refusal(error: Exception) -> str:
    """Return why the disk refused a write, or "" for any other error.

    TensorFlow's errors carry the reason only in their text.
    """
    if isinstance(error, UserError):
        return ""
    return next((reason for reason in map(os.strerror, _REFUSALS) if reason in str(error)), "")


@contextlib.contextmanager
def refusals(flag: str, folder: Path) -> Iterator[None]:
    """Turn what the disk refuses in this block, to Python or to TensorFlow, into one UserError that names the flag."""
    try:
        yield
    except Exception as error:
        if not (reason := refusal(error)):
            raise
        raise UserError(
            f"cannot write to --{flag}={folder}: {reason}; what was saved before is intact: "
            f"make room there, or give another --{flag}"
        ) from error


def check_writable(folder: Path, flag: str) -> None:
    """Raise UserError if the folder cannot be written, before hours of work whose result goes there. Makes nothing."""
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise UserError(f"--{flag}={folder} cannot be written: {error.strerror or error}") from None


def flush(folder: Path) -> None:
    """Force every file and folder below to the disk."""
    for path in folder.rglob("*"):
        sync(path)
    sync(folder)


def sync(path: Path) -> None:
    """Force one file, or one folder's entries, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
