"""What reading a set's files once has told, kept in the user's cache folder, so that the next start is quick."""

import contextlib
import hashlib
import io
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from dico_tf.data.records import Table

_FORMAT = 1  # changes with what is stored


def kept(name: str, files: Sequence[Path], about: Sequence[object], make: Callable[[], Table]) -> Table:
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


def _read(path: Path) -> Table | None:
    """None where there is no whole file; an archive checks its own sums."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            ids = bytes(archive["ids"]).decode().split("\0") if len(archive["ids"]) else ()
            found = Table(archive["labels"], np.asarray(ids, np.str_), archive["sizes"], archive["places"])
    except FileNotFoundError:
        return None
    except Exception as error:  # numpy and zipfile raise a dozen kinds over bytes that are not theirs
        logging.getLogger(__name__).warning("%s is damaged (%s): the files are read again", path, error)
        return None
    counts = {len(found.labels), len(found.sizes), len(found.places), len(found.ids) or len(found.labels)}
    return found if len(counts) == 1 else None


def _write(path: Path, table: Table, stem: str) -> None:
    """Beside, then renamed; an older one of the same set goes. Without a place to write, the next start reads again."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = io.BytesIO()
        ids = np.frombuffer("\0".join(table.ids).encode(), np.uint8)
        np.savez(stream, labels=table.labels, ids=ids, sizes=table.sizes, places=table.places)
        beside.write_bytes(stream.getbuffer())
        os.replace(beside, path)
        for old in path.parent.glob(f"{stem}-*.npz"):
            if old != path:
                old.unlink(missing_ok=True)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        logging.getLogger(__name__).warning("%s cannot be written: %s", path, error.strerror)
