"""`predictions_<split>.npz`: what every branch said about every image of a split."""

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from dico_tf.errors import UserError


class Predictions(NamedTuple):
    logits: np.ndarray  # [N, S, C] float32
    labels: np.ndarray  # [N] int64
    ids: np.ndarray  # [N] str


def write(path: str | os.PathLike, logits: ArrayLike, labels: ArrayLike, ids: Sequence[Any] | np.ndarray) -> None:
    """Of a classification run."""
    predictions = _checked(logits, labels, np.asarray([_text(name) for name in ids], dtype=np.str_))
    written(Path(path), predictions._asdict(), np.savez)


def written(path: Path, arrays: Mapping[str, np.ndarray], save: Callable[..., None]) -> None:
    """Beside, then renamed: whoever reads finds the old file or the new one, never half of it."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(beside, "wb") as file:
            save(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
        _sync_folder(path.parent)
    except OSError as fault:
        raise UserError(f"cannot write the predictions {path}: {fault.strerror or fault}") from fault
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()


def read(path: str | os.PathLike) -> Predictions:
    """The file's three arrays, or a UserError that says what is wrong with it."""
    path = Path(path)
    arrays = archived(path, Predictions._fields)
    missing = [name for name in Predictions._fields if name not in arrays]
    if missing:
        raise UserError(f"{path} is no predictions file: it lacks {', '.join(missing)}")
    try:
        return _checked(**arrays)
    except UserError as fault:
        raise UserError(f"{path} is no predictions file: {fault}") from fault


def archived(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The arrays of these names that the file has."""
    if not path.is_file():
        raise UserError(f"there is no predictions file {path}: evaluate the run first")
    try:
        with open(path, "rb") as file:  # np.load leaves a path's file open where it fails
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("a single array, not an .npz archive")
            return {name: archive[name] for name in names if name in archive}
    except Exception as fault:  # numpy and zipfile raise a dozen kinds over bytes that are not theirs
        raise UserError(
            f"{path} is damaged, cut short or no predictions file; evaluate the run again ({fault})"
        ) from fault


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


def _sync_folder(folder: Path) -> None:
    """The rename itself must outlive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
