"""What reading a set's files once has told, kept in the user's cache folder, so that the next start is quick."""

import hashlib
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from dico_tf.data.records import RecordTable
from dico_tf.errors import UserError
from dico_tf.files import arrays

_FORMAT = 1  # changes with what is stored


def kept(name: str, files: Sequence[Path], about: Sequence[object], make: Callable[[], RecordTable]) -> RecordTable:
    """The table of these very files (name, size, time of change), read again, or made and written."""
    folder = hashlib.sha256(str(files[0].parent.resolve()).encode()).hexdigest()[:8]
    stem = f"{name.replace('/', '_')}-{folder}"
    path = _cache() / f"{stem}-{_fingerprint(files, about)}.npz"
    found = _read(path)
    if found is None:
        found = make()
        _write(path, found, stem)
    return found


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "dico_tf" / "index"


def _fingerprint(files: Sequence[Path], about: Sequence[object]) -> str:
    facts = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return hashlib.sha256(repr((_FORMAT, tuple(about), facts)).encode()).hexdigest()[:16]


def _read(path: Path) -> RecordTable | None:
    """None where there is no whole file; an archive checks its own sums."""
    try:
        stored = arrays.read(path)
        ids = bytes(stored["ids"]).decode().split("\0") if len(stored["ids"]) else ()
        found = RecordTable(stored["labels"], np.asarray(ids, np.str_), stored["sizes"], stored["places"])
    except FileNotFoundError:
        return None
    except (UserError, KeyError, ValueError) as error:
        logging.getLogger(__name__).warning("%s is damaged (%s): the files are read again", path, error)
        return None
    counts = {len(found.labels), len(found.sizes), len(found.places), len(found.ids) or len(found.labels)}
    return found if len(counts) == 1 else None


def _write(path: Path, table: RecordTable, stem: str) -> None:
    """Write the table and remove older ones of the same set; if the disk refuses, the next start reads again."""
    ids = np.frombuffer("\0".join(table.ids).encode(), np.uint8)
    stored = {"labels": table.labels, "ids": ids, "sizes": table.sizes, "places": table.places}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays.write(path, stored)
        for old in path.parent.glob(f"{stem}-*.npz"):
            if old != path:
                old.unlink(missing_ok=True)
    except (OSError, UserError) as error:
        logging.getLogger(__name__).warning("%s cannot be written: %s", path, error)
