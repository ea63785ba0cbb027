"""One sum for a file or a folder."""

import hashlib
from collections.abc import Iterator
from pathlib import Path


def checksum(path: Path) -> tuple[str, int]:
    """(sha256, bytes) of a file; of a folder: of the names and sums of the files in it."""
    if not path.is_dir():
        return _of_file(path)
    found = {file.relative_to(path).as_posix(): _of_file(file) for file in _files(path)}
    lines = "".join(f"{sha256}  {name}\n" for name, (sha256, _) in sorted(found.items()))
    return hashlib.sha256(lines.encode()).hexdigest(), sum(size for _, size in found.values())


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _of_file(path: Path) -> tuple[str, int]:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest(), path.stat().st_size
