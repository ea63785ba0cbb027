"""Arrays on disk: .npz files, and folders of .npz files with a state.json that has their checksums."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dico_tf.errors import UserError
from dico_tf.files import atomic, json_files
from dico_tf.files.checksums import checksum

STATE = "state.json"
_AGAIN = "copy the run's folder again, or train again"


def write(path: Path, arrays: Mapping[str, np.ndarray], *, compressed: bool = False) -> None:
    """Write named arrays to an .npz file, atomically: if that raises UserError, an older file of this path stays."""
    with atomic.writing(path) as stream:
        (np.savez_compressed if compressed else np.savez)(stream, **arrays)


def read(path: Path) -> dict[str, np.ndarray]:
    """Load all arrays of an .npz file by name.

    Raises:
        FileNotFoundError: if the file is missing.
        UserError: if it cannot be opened, is damaged, or is not an .npz file.
    """
    try:
        stream = path.open("rb")  # given a path, np.load would leave the file open on errors
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UserError(f"{path} cannot be opened: {error.strerror}") from error
    with stream:
        try:
            archive = np.load(stream, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("it has a single array without a name")
            return dict(archive)
        except Exception as error:  # numpy and zipfile raise many kinds of errors for other bytes
            raise UserError(f"{path} is damaged, cut short or not an .npz file ({error})") from error


def write_folder(path: Path, parts: Mapping[str, Mapping[str, np.ndarray]], facts: Mapping[str, Any]) -> None:
    """Write a folder atomically: PART.npz with the arrays of each part, and state.json with `facts` and checksums."""
    with atomic.writing_folder(path) as beside:
        files = {}
        for name, arrays in parts.items():
            file = beside / f"{name}.npz"
            with file.open("wb") as stream:
                np.savez(stream, **arrays)
            files[file.name] = checksum(file)[0]
        content = {"format": json_files.FORMAT, **facts, "files": files}
        (beside / STATE).write_text(json.dumps(content, indent=1), encoding="utf-8")


def read_facts(path: Path) -> dict[str, Any]:
    """Load the state.json of a folder that `write_folder` wrote, and compare all files with their checksums.

    Raises:
        UserError: if state.json is missing, damaged or not that of such a folder, or a file is missing or changed.
    """
    path = atomic.current(path)
    missing = f"{path} was copied incompletely, or is not a checkpoint"
    facts = json_files.read(path / STATE, "the state.json of a checkpoint", missing=missing, again=_AGAIN)
    if not isinstance(facts.get("files"), dict):
        raise UserError(f"{path}/{STATE} lists no files, as the state.json of a checkpoint must: {_AGAIN}")
    for name, sha256 in facts["files"].items():
        if not (path / name).exists():
            raise UserError(f"{path}/{name} is missing: {_AGAIN}")
        if checksum(path / name)[0] != sha256:
            raise UserError(f"{path}/{name} is truncated or changed, its checksum differs: {_AGAIN}")
    return facts


def read_part(path: Path, name: str) -> dict[str, np.ndarray]:
    """Load the arrays of one part of a folder that `write_folder` wrote, unchecked: call `read_facts` first."""
    with np.load(atomic.current(path) / f"{name}.npz", allow_pickle=False) as arrays:
        return dict(arrays)
