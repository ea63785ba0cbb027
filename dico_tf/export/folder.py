"""The folder of an export, in which a new export takes the old one's place at once.

O/.current is a link to the folder that holds the export; manifest.json, README.md and a folder per format are links
through it, so that replacing that one link replaces all. What a killed process leaves begins with .making.
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
SHOWN = ("manifest.json", "README.md", *registry.FORMATS)
_MAKING, _DONE = ".making-", ".export-"
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)


@contextlib.contextmanager
def making(out: Path) -> Iterator[Path]:
    """An empty folder within O, on the same disk but out of every reader's sight; what remains in it is removed."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        strangers = [path.name for path in out.iterdir() if not path.name.startswith(".")]
    except OSError as error:
        raise UserError(f"cannot write to --out={out}: {error.strerror}") from None
    if strangers and not (out / CURRENT).is_symlink():
        raise UserError(f"--out={out} holds other things ({', '.join(sorted(strangers)[:3])}): give an empty folder")
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
    """Nobody else writes into O; what its disk refuses is told in a sentence."""
    with atomic.refusals("out", out), (out / ".lock").open("a") as stream:
        _lock(stream, out)
        yield


def _lock(stream: IO, out: Path) -> None:
    try:
        lock(stream)
    except BlockingIOError:
        raise UserError(f"another export into --out={out} is going on: wait for it, or give another") from None


def publish(out: Path, made: Path) -> None:
    """`made` becomes the export that O shows; readers find all of the old one or all of the new one."""
    atomic.flush(made)
    whole = out / f"{_DONE}{uuid.uuid4().hex[:12]}"
    made.rename(whole)
    _link(out, CURRENT, whole.name)
    for name in SHOWN:
        if (whole / name).exists() and not (out / name).is_symlink():
            _link(out, name, f"{CURRENT}/{name}")
    for name in SHOWN:
        if (out / name).is_symlink() and not (whole / name).exists():
            (out / name).unlink()
    atomic.sync(out)
    _remove(out, _DONE, but=whole.name)


def _link(out: Path, name: str, target: str) -> None:
    """A link, replaced at once where there was one."""
    beside = out / f".{name.lstrip('.')}.writing"
    beside.unlink(missing_ok=True)
    try:
        beside.symlink_to(target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        raise UserError(
            f"cannot make a link in {out} ({error.strerror}): give --out on a disk that has links"
        ) from None
    os.replace(beside, out / name)


def _remove(out: Path, kind: str, but: str = "") -> None:
    for path in out.glob(f"{kind}*"):
        if path.name != but:
            shutil.rmtree(path, ignore_errors=True)
