"""Folder of an export, in which a new export replaces the old one in one step.

OUT/.current is a symbolic link to the folder with the files. manifest.json, README.md and a folder for each format are
links through it, so that replacing this one link replaces everything. A killed process leaves folders .making-*,
which the next export deletes.
"""

import contextlib
import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from dico_tf.errors import UserError
from dico_tf.export.formats import registry
from dico_tf.files import atomic
from dico_tf.files.locks import lock

CURRENT = ".current"
LINKS = ("manifest.json", "README.md", *registry.FORMATS)
_MAKING, _DONE = ".making-", ".export-"
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)


@contextlib.contextmanager
def making(out: Path) -> Iterator[Path]:
    """Lock `out` and yield an empty hidden folder in it, for files that are not complete yet; deleted at the end.

    Raises UserError if `out` cannot be written, is locked, or has files that are not of an export.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        others = [path.name for path in out.iterdir() if not path.name.startswith(".")]
    except OSError as error:
        raise UserError(f"cannot write to --out={out}: {error.strerror}") from None
    if others and not (out / CURRENT).is_symlink():
        raise UserError(
            f"--out={out}: expected an empty folder or one that export.py made, got one with "
            f"{', '.join(sorted(others)[:3])}: give another folder"
        )
    with claimed(out):
        _remove(out, _MAKING)
        place = out / f"{_MAKING}{uuid.uuid4().hex[:12]}"
        place.mkdir()
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)


@contextlib.contextmanager
def claimed(out: Path) -> Iterator[None]:
    """Lock `out` against other writers. Raises UserError if it is locked, or for errors of the disk in the block."""
    with atomic.refusals("out", out), (out / ".lock").open("a") as stream:
        _lock(stream, out)
        yield


def _lock(stream: IO, out: Path) -> None:
    try:
        lock(stream)
    except BlockingIOError:
        raise UserError(f"another process writes to --out={out}: wait for it, or give another folder") from None


def publish(out: Path, new: Path) -> None:
    """Make the folder `new` the export at `out`. Readers see either the complete old or the complete new export."""
    atomic.flush(new)
    complete = out / f"{_DONE}{uuid.uuid4().hex[:12]}"
    new.rename(complete)
    if not (out / CURRENT).is_symlink():  # a first export: readers begin at manifest.json, which is linked last
        _link(out, CURRENT, complete.name)
    for name in reversed(LINKS):
        if (complete / name).exists() and not (out / name).is_symlink():
            _link(out, name, f"{CURRENT}/{name}")  # leads nowhere until the next line if the old export lacks it
    _link(out, CURRENT, complete.name)
    for name in LINKS:
        if (out / name).is_symlink() and not (complete / name).exists():
            (out / name).unlink()
    atomic.sync(out)
    _remove(out, _DONE, but=complete.name)


def _link(out: Path, name: str, target: str) -> None:
    """Create or replace a symbolic link in one step."""
    temporary = out / f".{name.lstrip('.')}.writing"
    temporary.unlink(missing_ok=True)
    try:
        temporary.symlink_to(target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        raise UserError(
            f"cannot create a symbolic link in {out} ({error.strerror}): give --out on a disk that supports them"
        ) from None
    os.replace(temporary, out / name)


def _remove(out: Path, kind: str, but: str = "") -> None:
    """Delete the folders whose names begin with `kind`, except `but`."""
    for path in out.glob(f"{kind}*"):
        if path.name != but:
            shutil.rmtree(path, ignore_errors=True)
