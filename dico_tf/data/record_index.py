"""On-disk cache of the tables of TFDS files (`RecordTable`), so that the next start need not read the files."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from dico_tf.data import dataset_cache
from dico_tf.data.dataset_cache import Arrays
from dico_tf.data.records import RecordTable


def cached(name: str, files: Sequence[Path], about: Sequence[object], make: Callable[[], RecordTable]) -> RecordTable:
    """Return the table of `files` from the cache, or the result of `make`, which is then cached.

    Args:
        name: of the dataset's split.
        about: all else that the table depends on; see `dataset_cache.cached`.
    """
    return _table(dataset_cache.cached("index", name, files, about, lambda: _arrays(make()), _valid))


def _arrays(table: RecordTable) -> Arrays:
    ids = np.frombuffer("\0".join(table.ids).encode(), np.uint8)
    return {"labels": table.labels, "ids": ids, "sizes": table.sizes, "places": table.places}


def _table(stored: Arrays) -> RecordTable:
    ids = bytes(stored["ids"]).decode().split("\0") if len(stored["ids"]) else ()
    return RecordTable(stored["labels"], np.asarray(ids, np.str_), stored["sizes"], stored["places"])


def _valid(stored: Arrays) -> bool:
    try:
        table = _table(stored)
    except (KeyError, ValueError):
        return False
    return len({len(table.labels), len(table.sizes), len(table.places), len(table.ids) or len(table.labels)}) == 1
