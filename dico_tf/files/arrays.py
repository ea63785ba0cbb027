"""Arrays on disk: .npz files, and folders of .npz files with their checksums in a state.json."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dico_tf.errors import UserError
from dico_tf.files import atomic, json_files
from dico_tf.files.checksums import checksum

STATE = "state.json"


def write(path: Path, arrays: Mapping[str, np.ndarray], *, compressed: bool = False) -> None:
    """Write an .npz file atomically: it is complete, or the old file stays."""
    with atomic.writing(path) as stream:
        (np.savez_compressed if compressed else np.savez)(stream, **arrays)


def read(path: Path) -> dict[str, np.ndarray]:
    """Load all arrays of an .npz file. Raises FileNotFoundError if it is missing, UserError if it is damaged."""
    try:
        with path.open("rb") as stream:  # given a path, np.load would leave the file open on errors
            archive = np.load(stream, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("a single array")
            return dict(archive)
    except FileNotFoundError:
        raise
    except Exception as error:  # numpy and zipfile raise many kinds of errors for other bytes
        raise UserError(f"{path} is damaged, cut short or not an .npz file ({error})") from error


def write_folder(path: Path, parts: Mapping[str, Mapping[str, np.ndarray]], facts: Mapping[str, Any]) -> None:
    """Write a folder atomically: PART.npz for each part, and state.json with the facts and the checksums."""
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
    """Load a folder's state.json and check its files. Raises UserError if one is missing or changed."""
    path = atomic.current(path)
    facts = json_files.read_of_run(path / STATE)
    if not isinstance(facts.get("files"), dict):
        raise UserError(f"{path}/{STATE} lists no files: it is damaged, or another program wrote it")
    for name, sha256 in facts["files"].items():
        if not (path / name).exists():
            raise UserError(f"{path}/{name} is missing")
        if checksum(path / name)[0] != sha256:
            raise UserError(f"{path}/{name} is truncated or changed: its checksum differs")
    return facts


def read_part(path: Path, name: str) -> dict[str, np.ndarray]:
    """Load PART.npz of a folder, without a check; call `read_facts` first."""
    with np.load(atomic.current(path) / f"{name}.npz", allow_pickle=False) as arrays:
        return dict(arrays)
