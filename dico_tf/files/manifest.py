"""Read and write manifest.json, the only description of an export.

An export that was edited, half copied, or made by another program is refused when it is loaded.
"""

import dataclasses
import hashlib
import json
import os
from pathlib import Path, PurePosixPath
from typing import Any

from dico_tf.errors import UserError
from dico_tf.files import json_files
from dico_tf.files.checksums import checksum
from dico_tf.registry import suggestion

KIND = "dico_tf export"
NAME = "manifest.json"
SAVED_MODEL = "saved_model"
LITERT = ("float32", "float16", "dynamic", "int8")  # the safest first
COMMITTEE = "committee"
READING = "reading"  # of a member whose LiteRT file was made elsewhere: how it is fed, and what it says
_MEMBER = {
    "name": str, "kind": str, "files": dict, "input_size": int, "class_names": list, "params": int, "macs": int,
    "metrics": dict,
}  # fmt: skip
_TRIES = 5  # a new export may take the old one's place between reading the manifest and reading a file


@dataclasses.dataclass(frozen=True)
class File:
    """A file, or a folder of files, of a member; `path` is relative to the manifest."""

    path: str
    sha256: str
    bytes: int


@dataclasses.dataclass(frozen=True)
class Manifest:
    folder: Path
    content: dict[str, Any]

    @property
    def id(self) -> str:
        """The same for all exports of the same weights: their answers may be averaged."""
        return self.content["id"]

    @property
    def names(self) -> list[str]:
        return [member["name"] for member in self.content["members"]]

    @property
    def branches(self) -> list[str]:
        return self.content[COMMITTEE]["members"]

    @property
    def average(self) -> str:
        return self.content[COMMITTEE]["average"]

    def member(self, name: str) -> dict[str, Any]:
        for member in self.content["members"]:
            if member["name"] == name:
                return member
        raise UserError(f"the export {self.folder} has no member {name!r}; {suggestion(name, self.names)}")

    def formats(self, name: str) -> list[str]:
        """LiteRT formats of a member, the safest first."""
        return [kind for kind in LITERT if kind in self.member(name)["files"]]

    def file(self, name: str, kind: str) -> File:
        files = self.member(name)["files"]
        if kind not in files:
            raise UserError(f"the export {self.folder} has no {kind} of {name}; it has {', '.join(files) or 'nothing'}")
        return File(**{field.name: files[kind][field.name] for field in dataclasses.fields(File)})

    def path(self, name: str, kind: str) -> Path:
        return self.folder / self.file(name, kind).path


def digest(content: dict[str, Any]) -> str:
    """sha256 of everything but itself."""
    rest = {key: value for key, value in content.items() if key != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def text(content: dict[str, Any]) -> str:
    """As it is written."""
    content = {"format": json_files.FORMAT, "kind": KIND, **content}
    return json.dumps({**content, "digest": digest(content)}, indent=1) + "\n"


def measure(path: Path, below: Path) -> dict[str, Any]:
    """{path, sha256, bytes} of a file, or of all files in a folder."""
    sha256, size = checksum(path)
    return {"path": path.relative_to(below).as_posix(), "sha256": sha256, "bytes": size}


def load(path: str | Path) -> Manifest:
    """Load a manifest and check its digest. Raises UserError if it is damaged, edited or of another program."""
    path = Path(path)
    path = path / NAME if path.is_dir() else path
    content = json_files.read(
        path,
        "the manifest of an export",
        missing=f"give the {NAME} of an export (export.py writes it)",
        again="export again, or copy it again",
        kind=KIND,
    )
    if fault := _fault(content):
        raise UserError(f"{path} {fault}")
    return Manifest(path.parent, content)


def stamp(path: str | Path) -> tuple[int, ...] | None:
    """Another one where another manifest was written; None where there is none. Of a folder: of the one in it."""
    path = Path(path)
    try:
        found = os.stat(path / NAME if path.is_dir() else path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


def _fault(content: dict[str, Any]) -> str:
    if content.get("digest") != digest(content):
        return "is not as it was written: its digest does not fit; export again, or copy it again"
    members, committee = content.get("members"), content.get(COMMITTEE)
    if not _all(dict, members) or not isinstance(committee, dict) or not _all(str, committee.get("members")):
        return "says nothing that can be used about its members: export again"
    names = [member.get("name") for member in members]
    for member in members:
        wrong = [key for key, kind in _MEMBER.items() if not isinstance(member.get(key), kind)]
        wrong = wrong or [f"its {kind}" for kind, file in member["files"].items() if not _whole(file)]
        if wrong:
            return f"says nothing that can be used about {wrong[0]} of member {member.get('name')!r}: export again"
        if any(not _inside(file["path"]) for file in member["files"].values()):
            return f"names a file of {member['name']} outside of the export"
    if committee.get("temperature", 1.0) != 1.0:
        return "divides logits by a temperature, which this version does not: export again"
    strangers = [name for name in committee["members"] if name not in names]
    return f"puts {strangers[0]!r} on the committee, which is no member" if strangers else ""


def _all(kind: type, found: Any) -> bool:
    return isinstance(found, list) and all(isinstance(one, kind) for one in found)


def _whole(file: Any) -> bool:
    return isinstance(file, dict) and all(isinstance(file.get(f.name), f.type) for f in dataclasses.fields(File))


def _inside(path: str) -> bool:
    pure = PurePosixPath(path)
    return not pure.is_absolute() and ".." not in pure.parts and bool(pure.parts) and "\0" not in path


def read(path: str | Path, member: str, kind: str) -> tuple[Manifest, bytes]:
    """The manifest and the bytes of a member's file, which are those that were exported."""
    for _ in range(_TRIES):
        manifest = load(path)
        file = manifest.file(member, kind)
        content = _bytes(manifest.folder / file.path)
        if content is not None and hashlib.sha256(content).hexdigest() == file.sha256:
            return manifest, content
        if load(path).content == manifest.content:
            break
    raise UserError(_refusal(manifest, file.path, "is missing" if content is None else "is not the one exported"))


def verify(manifest: Manifest, member: str = "", kind: str = "") -> None:
    """Every file of the export, of a member, or one alone, is the one that was exported."""
    for name in [member] if member else manifest.names:
        for found in [kind] if kind else manifest.member(name)["files"]:
            file = manifest.file(name, found)
            path = manifest.folder / file.path
            if not path.exists():
                raise UserError(_refusal(manifest, file.path, "is missing"))
            if checksum(path) != (file.sha256, file.bytes):
                raise UserError(_refusal(manifest, file.path, "is not the one exported"))


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _refusal(manifest: Manifest, path: str, fault: str) -> str:
    return f"{manifest.folder / path} {fault}: the export is half copied or tampered with; copy it again, or export"
