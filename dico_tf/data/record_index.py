"""On-disk cache of the tables of TFDS files (`RecordTable`), so that the next start need not read the files."""

import hashlib
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from dico_tf.data.records import RecordTable
from dico_tf.errors import UserError
from dico_tf.files import arrays

_FORMAT = 1  # version of the stored arrays


def cached(name: str, files: Sequence[Path], about: Sequence[object], make: Callable[[], RecordTable]) -> RecordTable:
    """Return the table of `files` from the cache, or the result of `make`, which is then cached.

    A cached table is used only while `about` and each file's name, size and modification time are the same. A new table
    replaces older ones of the same `name` whose files lie in the same folder. The cache is the folder dico_tf/index in
    $XDG_CACHE_HOME, by default in ~/.cache.
    """
    folder = hashlib.sha256(str(files[0].parent.resolve()).encode()).hexdigest()[:8]
    stem = f"{name.replace('/', '_')}-{folder}"
    path = _cache() / f"{stem}-{_fingerprint(files, about)}.npz"
    table = _read(path)
    if table is None:
        table = make()
        _write(path, table, stem)
    return table


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "dico_tf" / "index"


def _fingerprint(files: Sequence[Path], about: Sequence[object]) -> str:
    facts = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return hashlib.sha256(repr((_FORMAT, tuple(about), facts)).encode()).hexdigest()[:16]


def _read(path: Path) -> RecordTable | None:
    """Return the cached table, or None if there is none or it is damaged, which the archive's checksums show."""
    try:
        stored = arrays.read(path)
        ids = bytes(stored["ids"]).decode().split("\0") if len(stored["ids"]) else ()
        table = RecordTable(stored["labels"], np.asarray(ids, np.str_), stored["sizes"], stored["places"])
    except FileNotFoundError:
        return None
    except (UserError, KeyError, ValueError) as error:
        logging.getLogger(__name__).warning(
            "the index %s cannot be used: the dataset's files are read again (%s)", path, error
        )
        return None
    counts = {len(table.labels), len(table.sizes), len(table.places), len(table.ids) or len(table.labels)}
    return table if len(counts) == 1 else None


def _write(path: Path, table: RecordTable, stem: str) -> None:
    """Store the table, and remove older ones, whose file names begin with `stem`. A failure is only a warning."""
    ids = np.frombuffer("\0".join(table.ids).encode(), np.uint8)
    stored = {"labels": table.labels, "ids": ids, "sizes": table.sizes, "places": table.places}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays.write(path, stored)
        for old in path.parent.glob(f"{stem}-*.npz"):
            if old != path:
                old.unlink(missing_ok=True)
    except (OSError, UserError) as error:
        logging.getLogger(__name__).warning(
            "the dataset's index is not stored, so that the next start reads the files again: %s", error
        )
