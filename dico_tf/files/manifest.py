"""Read and write manifest.json, which describes an export and has the checksums of its files.

A manifest that was edited, damaged or made by another program is refused when it is loaded. `read` and `verify` check
the files that it describes.
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
LITERT = ("float32", "float16", "dynamic", "int8")  # the most accurate first
COMMITTEE = "committee"
READING = "reading"  # key of members whose LiteRT file was made elsewhere: input and output conventions
_MEMBER = {
    "name": str,
    "kind": str,
    "files": dict,
    "input_size": int,
    "class_names": list,
    "params": int,
    "macs": int,
    "metrics": dict,
}
_TRIES = 5  # a new export may replace the old one between reading the manifest and reading a file


@dataclasses.dataclass(frozen=True)
class File:
    """A file of a member, or a folder of files; `path` is relative to the manifest's folder."""

    path: str
    sha256: str
    bytes: int


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The content of a checked manifest.json, and its folder."""

    folder: Path
    content: dict[str, Any]

    @property
    def id(self) -> str:
        """Identifier of the weights. Members of different exports may answer together only if the id is the same."""
        return self.content["id"]

    @property
    def names(self) -> list[str]:
        return [member["name"] for member in self.content["members"]]

    @property
    def branches(self) -> list[str]:
        """Names of the members that the committee combines, such as branch_0."""
        return self.content[COMMITTEE]["members"]

    @property
    def average(self) -> str:
        return self.content[COMMITTEE]["average"]

    def member(self, name: str) -> dict[str, Any]:
        """Return the entry of a member. Raises UserError if there is none of this name."""
        for member in self.content["members"]:
            if member["name"] == name:
                return member
        raise UserError(f"the export {self.folder} has no member {name!r}; {suggestion(name, self.names)}")

    def formats(self, name: str) -> list[str]:
        """Return the kinds of LiteRT files that a member has, in the order float32, float16, dynamic, int8."""
        return [kind for kind in LITERT if kind in self.member(name)["files"]]

    def file(self, name: str, kind: str) -> File:
        """Return a member's file of a kind, such as "float32" or "saved_model". Raises UserError if there is none."""
        files = self.member(name)["files"]
        if kind not in files:
            raise UserError(f"the export {self.folder} has no {kind} of {name}; it has {', '.join(files) or 'nothing'}")
        return File(**{field.name: files[kind][field.name] for field in dataclasses.fields(File)})

    def path(self, name: str, kind: str) -> Path:
        """Return the path of a member's file, including the export's folder.

        Raises UserError if the manifest lists none. Whether the file exists is not checked.
        """
        return self.folder / self.file(name, kind).path


def digest(content: dict[str, Any]) -> str:
    """Return the sha256 of a manifest's content, leaving out the key "digest" itself."""
    rest = {key: value for key, value in content.items() if key != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def text(content: dict[str, Any]) -> str:
    """Return the text of a manifest.json with this content, to which format, kind and digest are added."""
    content = {"format": json_files.FORMAT, "kind": KIND, **content}
    return json.dumps({**content, "digest": digest(content)}, indent=1) + "\n"


def measure(path: Path, below: Path) -> dict[str, Any]:
    """Return the manifest's entry of a file or folder: {path relative to `below`, sha256, bytes}."""
    sha256, size = checksum(path)
    return {"path": path.relative_to(below).as_posix(), "sha256": sha256, "bytes": size}


def load(path: str | Path) -> Manifest:
    """Load and check a manifest, given its file or folder. Raises UserError if it is missing, damaged or changed."""
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
    """Return a value that changes when the manifest's file is replaced or written to; None if there is no file."""
    path = Path(path)
    try:
        status = os.stat(path / NAME if path.is_dir() else path)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size


def _fault(content: dict[str, Any]) -> str:
    """Return what is wrong with a manifest and what to do, or ""."""
    if content.get("digest") != digest(content):
        return "was changed: its digest does not match; export again, or copy it again"
    members, committee = content.get("members"), content.get(COMMITTEE)
    if not _all(dict, members) or not isinstance(committee, dict) or not _all(str, committee.get("members")):
        return "has no valid list of members: export again"
    names = [member.get("name") for member in members]
    for member in members:
        wrong = [key for key, kind in _MEMBER.items() if not isinstance(member.get(key), kind)]
        wrong = wrong or [f"file {kind}" for kind, file in member["files"].items() if not _is_file(file)]
        if wrong:
            return f"has no valid {wrong[0]} of member {member.get('name')!r}: export again"
        if any(not _inside(file["path"]) for file in member["files"].values()):
            return f"has a file of {member['name']} outside of the export: export again"
    if committee.get("temperature", 1.0) != 1.0:
        return "has a temperature for logits, which this version does not support: export again"
    strangers = [name for name in committee["members"] if name not in names]
    return f"has {strangers[0]!r} in its committee, which is not a member: export again" if strangers else ""


def _all(kind: type, values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, kind) for value in values)


def _is_file(file: Any) -> bool:
    return isinstance(file, dict) and all(isinstance(file.get(f.name), f.type) for f in dataclasses.fields(File))


def _inside(path: str) -> bool:
    pure = PurePosixPath(path)
    return not pure.is_absolute() and ".." not in pure.parts and bool(pure.parts) and "\0" not in path


def read(path: str | Path, member: str, kind: str) -> tuple[Manifest, bytes]:
    """Load a manifest, given its file or folder, and the bytes of a member's file, whose checksum is verified.

    If a new export replaces the old one meanwhile, both are read again.

    Args:
        kind: a file such as "float32"; "saved_model" is a folder, which `verify` checks.

    Raises:
        UserError: if `load` refuses the manifest, if there is no such member or file, or if the file's checksum
            differs from the manifest's.
    """
    for _ in range(_TRIES):
        manifest = load(path)
        file = manifest.file(member, kind)
        content = _bytes(manifest.folder / file.path)
        if content is not None and hashlib.sha256(content).hexdigest() == file.sha256:
            return manifest, content
        if load(path).content == manifest.content:
            break
    raise UserError(
        _refusal(manifest, file.path, "is missing or unreadable" if content is None else "is not the one exported")
    )


def verify(manifest: Manifest, member: str = "", kind: str = "") -> None:
    """Compare the files of an export with their checksums. Raises UserError if one is missing or differs.

    Args:
        member: only the files of this member; "" = those of all members.
        kind: only files of this kind, which every member must then have; "" = those of all kinds.
    """
    for name in [member] if member else manifest.names:
        for key in [kind] if kind else manifest.member(name)["files"]:
            file = manifest.file(name, key)
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
    where = manifest.folder / path
    return f"{where} {fault}: the export was copied incompletely or changed; copy it again, or export again"
