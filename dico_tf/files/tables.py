"""Tables of logits: the logits of several branches or members on the same labelled images, in one .npz file."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from dico_tf.errors import UserError
from dico_tf.files import arrays

_LABELS, _IDS, _CLASS_NAMES = "labels", ("ids", "image_ids"), "class_names"


class Predictions(NamedTuple):
    """Logits, labels and image ids of one split, for all branches of a run: content of predictions_<split>.npz."""

    logits: np.ndarray  # [N, S, C] float32
    labels: np.ndarray  # [N] int64
    ids: np.ndarray  # [N] str


class LogitTable(NamedTuple):
    """Logits of any members on the same images, with labels and ids, as stored: shapes and types are not checked."""

    logits: Mapping[str, np.ndarray]  # {member's name: logits [N, C]}
    labels: np.ndarray  # [N]
    ids: np.ndarray  # [N]
    class_names: tuple[str, ...] | None  # None: the file has none


def write_predictions(
    path: str | os.PathLike, logits: ArrayLike, labels: ArrayLike, ids: Sequence[Any] | np.ndarray
) -> None:
    """Write a run's predictions: logits [N, S, C] of S branches, labels [N] and image ids [N].

    Logits must be floats and labels whole numbers; ids of any type are written as text.

    Raises:
        UserError: if a shape or type is another, or if the file cannot be written.
    """
    predictions = _checked(logits, labels, np.asarray([_text(name) for name in ids], dtype=np.str_))
    arrays.write(Path(path), predictions._asdict())


def read_predictions(path: str | os.PathLike) -> Predictions:
    """Load predictions that `write_predictions` wrote.

    Raises:
        UserError: if the file is missing, damaged or has other content.
    """
    what = "a predictions file"
    stored = read_named(Path(path), Predictions._fields, what)
    try:
        return _checked(**stored)
    except UserError as error:
        raise UserError(f"{path} is not {what}: {error}") from error


def read_named(path: Path, names: Sequence[str], what: str) -> dict[str, np.ndarray]:
    """Load the arrays `names` from an .npz file that evaluate.py wrote; others are ignored.

    Args:
        what: what the file should be, for messages: "a predictions file".

    Raises:
        UserError: if the file is missing or damaged, or lacks an array.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist: expected {what}, which evaluate.py writes; evaluate the run first")
    try:
        stored = arrays.read(path)
    except UserError as error:
        raise UserError(f"{error}; evaluate the run again") from error
    if missing := [name for name in names if name not in stored]:
        raise UserError(f"{path} is not {what}: it lacks {', '.join(missing)}")
    return {name: stored[name] for name in names}


def read(path: str | os.PathLike) -> LogitTable:
    """Load a table of logits from an .npz file.

    Its arrays are `labels`, `ids` (or `image_ids`), optionally `class_names`, and the logits of each member under the
    member's name. The predictions of a run can be read, too: their members are branch_0, branch_1 ...

    Raises:
        UserError: if the file is missing or damaged, or lacks labels or ids.
    """
    try:
        stored = arrays.read(Path(path))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: expected a table of logits") from None
    names_in_file = ", ".join(stored) or "no arrays"
    ids = next((stored.pop(name) for name in _IDS if name in stored), None)
    labels, names = stored.pop(_LABELS, None), stored.pop(_CLASS_NAMES, None)
    if ids is None or labels is None:
        raise UserError(
            f"{path}: expected a table of logits with {_LABELS} and {' or '.join(_IDS)}, got {names_in_file}"
        )
    if set(stored) == {"logits"} and stored["logits"].ndim == 3:
        stored = {f"branch_{s}": branch for s, branch in enumerate(np.moveaxis(stored["logits"], 1, 0))}
    return LogitTable(stored, labels, ids, None if names is None else tuple(map(str, names)))


def _checked(logits: ArrayLike, labels: ArrayLike, ids: np.ndarray) -> Predictions:
    """Return the arrays as `Predictions`, or raise UserError if shapes or types are others. NaN is not checked."""
    logits, labels = np.asarray(logits), np.asarray(labels)
    if logits.dtype.kind != "f" or logits.ndim != 3 or 0 in logits.shape:
        raise UserError(
            f"expected logits as floats [N, S, C] with N, S and C above 0, got {logits.dtype} {list(logits.shape)}"
        )
    images = (len(logits),)
    if labels.dtype.kind not in "iu" or labels.shape != images:
        raise UserError(
            f"expected labels as whole numbers, one for each of {len(logits)} images, "
            f"got {labels.dtype} of shape {list(labels.shape)}"
        )
    if ids.dtype.kind != "U" or ids.shape != images:
        raise UserError(f"expected ids as text of shape {list(images)}, got {ids.dtype} of shape {list(ids.shape)}")
    return Predictions(logits.astype(np.float32), labels.astype(np.int64), ids)


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)
