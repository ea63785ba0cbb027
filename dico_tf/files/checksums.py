"""Checksums of files, folders and arrays."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np


def checksum(path: Path) -> tuple[str, int]:
    """Return (sha256, size in bytes) of a file or folder.

    A folder's sha256 covers the relative paths and checksums of all files in it; its size is the sum of their sizes.
    """
    if not path.is_dir():
        return _of_file(path)
    parts = {file.relative_to(path).as_posix(): _of_file(file) for file in _files(path)}
    lines = "".join(f"{sha256}  {name}\n" for name, (sha256, _) in sorted(parts.items()))
    return hashlib.sha256(lines.encode()).hexdigest(), sum(size for _, size in parts.values())


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _of_file(path: Path) -> tuple[str, int]:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest(), path.stat().st_size


def of_branches(arrays: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Return {branch_0: sha256 of the names and values of its weights, ...} for arrays branch_0/LAYER/VARIABLE."""
    digests: dict[str, Any] = {}
    for name in sorted(arrays):
        branch, _, rest = name.partition("/")
        digests.setdefault(branch, hashlib.sha256()).update(f"\0{rest}\0".encode() + arrays[name].tobytes())
    return {name: digest.hexdigest() for name, digest in digests.items()}
