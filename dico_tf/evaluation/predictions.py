"""`predictions_<split>.npz`: what every branch said about every image of a split."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from dico_tf.errors import UserError
from dico_tf.files import arrays


class Predictions(NamedTuple):
    logits: np.ndarray  # [N, S, C] float32
    labels: np.ndarray  # [N] int64
    ids: np.ndarray  # [N] str


def write(path: str | os.PathLike, logits: ArrayLike, labels: ArrayLike, ids: Sequence[Any] | np.ndarray) -> None:
    """Of a classification run."""
    predictions = _checked(logits, labels, np.asarray([_text(name) for name in ids], dtype=np.str_))
    arrays.write(Path(path), predictions._asdict())


def read(path: str | os.PathLike) -> Predictions:
    """The file's three arrays, or a UserError that says what is wrong with it."""
    path = Path(path)
    stored = archived(path, Predictions._fields)
    missing = [name for name in Predictions._fields if name not in stored]
    if missing:
        raise UserError(f"{path} is no predictions file: it lacks {', '.join(missing)}")
    try:
        return _checked(**stored)
    except UserError as fault:
        raise UserError(f"{path} is no predictions file: {fault}") from fault


def archived(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The arrays of these names that the file has."""
    if not path.is_file():
        raise UserError(f"there is no predictions file {path}: evaluate the run first")
    try:
        stored = arrays.read(path)
    except UserError as fault:
        raise UserError(f"{fault}; evaluate the run again") from fault
    return {name: stored[name] for name in names if name in stored}


def _checked(logits: ArrayLike, labels: ArrayLike, ids: np.ndarray) -> Predictions:
    """NaN passes: the file keeps what the network said, evaluating it refuses."""
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
