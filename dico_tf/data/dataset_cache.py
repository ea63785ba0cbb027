"""On-disk cache of arrays that were made from a dataset's files, so that the next start need not make them again."""

import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from dico_tf.errors import UserError
from dico_tf.files import arrays

Arrays = Mapping[str, np.ndarray]
LIMIT = 2 * 2**30  # bytes of each kind of arrays; the least recently used are removed
SPARE = 4  # free space that a new file needs, as a multiple of its size
_FORMAT = 1  # version of the stored arrays


def cached(
    kind: str,
    name: str,
    files: Sequence[Path],
    about: Sequence[object],
    make: Callable[[], Arrays],
    valid: Callable[[Arrays], bool],
) -> Arrays:
    """Return arrays from the cache; without them, call `make`, which makes them from `files`, and cache its result.

    Cached arrays are used only while `about` and each file's name, size and modification time are the same. New arrays
    replace older ones of the same `name` whose files lie in the same folder. The cache is the folder dico_tf/KIND in
    $XDG_CACHE_HOME, by default in ~/.cache.

    Args:
        kind: of the arrays, e.g. index; the name of their folder.
        name: of the dataset's split.
        about: all else that the arrays depend on.
        valid: returns whether cached arrays have the names and shapes that are expected.
    """
    folder = hashlib.sha256(str(files[0].parent.resolve()).encode()).hexdigest()[:8]
    stem = f"{name.replace('/', '_')}-{folder}"
    path = _folder(kind) / f"{stem}-{_fingerprint(files, about)}.npz"
    content = _read(path, valid)
    if content is None:
        content = make()
        _write(path, content, stem)
    return content


def _folder(kind: str) -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "dico_tf" / kind


def _fingerprint(files: Sequence[Path], about: Sequence[object]) -> str:
    facts = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return hashlib.sha256(repr((_FORMAT, tuple(about), facts)).encode()).hexdigest()[:16]


def _read(path: Path, valid: Callable[[Arrays], bool]) -> Arrays | None:
    """Return the cached arrays, or None if there are none or they are damaged, which the archive's checksums show."""
    try:
        content = arrays.read(path)
        if not valid(content):
            raise UserError("it has other arrays")
    except FileNotFoundError:
        return None
    except UserError as error:
        logging.getLogger(__name__).warning(
            "the cached %s cannot be used: the dataset's files are read again (%s)", path, error
        )
        return None
    _touch(path)
    return content


def _touch(path: Path) -> None:
    """Set the modification time to now; leave it if that is not permitted."""
    try:
        os.utime(path)
    except OSError:
        return


def _write(path: Path, content: Arrays, stem: str) -> None:
    """Store arrays, and remove older ones, whose file names begin with `stem`. A failure is only a warning.

    Arrays that are too large for the cache or the disk are not stored.
    """
    size = sum(array.nbytes for array in content.values())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if size > LIMIT or shutil.disk_usage(path.parent).free < SPARE * size:
            return
        for old in path.parent.glob(f"{stem}-*.npz"):
            if old != path:
                old.unlink(missing_ok=True)
        _make_room(path.parent, size)
        arrays.write(path, content)
    except (OSError, UserError) as error:
        logging.getLogger(__name__).warning(
            "%s is not cached, so the next start reads the dataset's files again: %s", path.name, error
        )


def _make_room(folder: Path, size: int) -> None:
    """Remove the least recently used files until `size` more bytes fit into the limit."""
    files = sorted(folder.glob("*.npz"), key=lambda path: path.stat().st_mtime)
    total = sum(path.stat().st_size for path in files)
    for path in files:
        if total + size <= LIMIT:
            return
        total -= path.stat().st_size
        path.unlink(missing_ok=True)
