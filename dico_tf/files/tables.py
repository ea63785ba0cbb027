"""Tables of logits: what every branch or member answered about the same labelled images, in one .npz file."""

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
    """The table of a classification run: `predictions_<split>.npz`."""

    logits: np.ndarray  # [N, S, C] float32
    labels: np.ndarray  # [N] int64
    ids: np.ndarray  # [N] str


class Table(NamedTuple):
    """A table of any members, a run's branches among them."""

    logits: Mapping[str, np.ndarray]  # of each member, as stored
    labels: np.ndarray
    ids: np.ndarray
    class_names: tuple[str, ...] | None


def write_predictions(
    path: str | os.PathLike, logits: ArrayLike, labels: ArrayLike, ids: Sequence[Any] | np.ndarray
) -> None:
    predictions = _checked(logits, labels, np.asarray([_text(name) for name in ids], dtype=np.str_))
    arrays.write(Path(path), predictions._asdict())


def read_predictions(path: str | os.PathLike) -> Predictions:
    """Load a run's predictions. Raises UserError if the file is missing, damaged or of another kind."""
    what = "a predictions file"
    stored = read_named(Path(path), Predictions._fields, what)
    try:
        return _checked(**stored)
    except UserError as error:
        raise UserError(f"{path} is not {what}: {error}") from error


def read_named(path: Path, names: Sequence[str], what: str) -> dict[str, np.ndarray]:
    """Load the arrays of these names from a file that evaluate.py writes; `what` it should be, for messages."""
    if not path.is_file():
        raise UserError(f"{path} does not exist: it is {what}, evaluate the run first")
    try:
        stored = arrays.read(path)
    except UserError as error:
        raise UserError(f"{error}; evaluate the run again") from error
    if missing := [name for name in names if name not in stored]:
        raise UserError(f"{path} is not {what}: it lacks {', '.join(missing)}")
    return {name: stored[name] for name in names}


def read(path: str | os.PathLike) -> Table:
    """Load `labels`, `ids` (or `image_ids`), perhaps `class_names`, and the logits under each member's name.

    A run's predictions are such a table, too: their logits [N, S, C] are those of branch_0, branch_1 ...
    """
    try:
        stored = arrays.read(Path(path))
    except FileNotFoundError:
        raise UserError(f"there is no table of logits {path}") from None
    ids = next((stored.pop(name) for name in _IDS if name in stored), None)
    labels, names = stored.pop(_LABELS, None), stored.pop(_CLASS_NAMES, None)
    if ids is None or labels is None:
        raise UserError(
            f"{path}: expected a table of logits with {_LABELS} and {' or '.join(_IDS)}, "
            f"got {', '.join(stored) or 'nothing'} beside them"
        )
    if set(stored) == {"logits"} and stored["logits"].ndim == 3:
        stored = {f"branch_{s}": branch for s, branch in enumerate(np.moveaxis(stored["logits"], 1, 0))}
    return Table(stored, labels, ids, None if names is None else tuple(map(str, names)))


def _checked(logits: ArrayLike, labels: ArrayLike, ids: np.ndarray) -> Predictions:
    """Check shapes and types. NaN passes: the file keeps what the network answered, evaluating it refuses."""
    logits, labels = np.asarray(logits), np.asarray(labels)
    if logits.dtype.kind != "f" or logits.ndim != 3 or 0 in logits.shape:
        raise UserError(f"logits are {logits.dtype} {list(logits.shape)}, expected floats [N, S, C], none of them 0")
    images = (len(logits),)
    if labels.dtype.kind not in "iu" or labels.shape != images:
        raise UserError(f"labels are {labels.dtype} {list(labels.shape)}, expected whole numbers {list(images)}")
    if ids.dtype.kind != "U" or ids.shape != images:
        raise UserError(f"ids are {ids.dtype} {list(ids.shape)}, expected text {list(images)}")
    return Predictions(logits.astype(np.float32), labels.astype(np.int64), ids)


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)
