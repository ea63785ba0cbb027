"""committee.json: members in their order, gates, the images they were fitted to, and results."""

import dataclasses
import importlib.metadata
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dico_tf import __version__
from dico_tf.committee import serialization
from dico_tf.committee.decision import Committee, decide
from dico_tf.committee.dense.grid import Grid
from dico_tf.errors import UserError
from dico_tf.evaluation.cost import MEASURES, Cost
from dico_tf.files import json_files, member_kinds

KIND = "dico_tf committee"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SavedMember:
    """A member as committee.json describes it."""

    name: str
    kind: str  # of files/member_kinds.py
    source: str  # URI that opens it, without the name
    sha256: str  # of its weights, or file; "" if unknown
    input_size: int  # pixels of a side of its images
    outputs: str = ""  # logits or probabilities, as its outputs were read; "" if unknown
    cost: Cost = dataclasses.field(default_factory=Cost)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Calibration:
    """The images to which gates, temperatures and weights were fitted."""

    name: str
    fingerprint: str  # identifies the images
    images: int  # number of them


def _versions() -> dict[str, str]:
    return {"dico_tf": __version__, "numpy": importlib.metadata.version("numpy")}


@dataclasses.dataclass(frozen=True, kw_only=True)
class CommitteeFile:
    """Contents of committee.json."""

    committee: Committee
    members: tuple[SavedMember, ...]  # in the committee's order
    classes: int
    class_names: tuple[str, ...] | None
    calibration: Calibration
    results: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    promise: Mapping[str, Any] | None = None  # the guarantee of a search with --risk
    grid: Grid | None = None  # of a committee that decides about cells
    made_by: Mapping[str, str] = dataclasses.field(default_factory=_versions)

    def __post_init__(self) -> None:
        names = tuple(member.name for member in self.members)
        if names != self.committee.members:
            raise UserError(
                f"expected the members {', '.join(self.committee.members)}, got {', '.join(names)}: they must be those "
                "of the committee, in its order"
            )
        if self.class_names is not None and len(self.class_names) != self.classes:
            raise UserError(f"expected {self.classes} class_names, one for each class, got {len(self.class_names)}")


def changed(content: CommitteeFile, checksums: Mapping[str, str]) -> list[str]:
    """Return the names of members whose checksum is not the file's.

    A member without a checksum, now or in the file, counts as unchanged. checksums: {member: its checksum now}.
    """
    pairs = [(member, checksums.get(member.name, "")) for member in content.members]
    return [member.name for member, current in pairs if member.sha256 and current and current != member.sha256]


def stale(content: CommitteeFile, checksums: Mapping[str, str]) -> str:
    """Return a warning that names the members that `changed` returns, or "" if there are none."""
    names = changed(content, checksums)
    who = f"member {names[0]} is" if len(names) == 1 else f"members {', '.join(names)} are"
    one = "the one" if len(names) == 1 else "those"
    return f"the gates are stale: {who} not {one} they were fitted to; search again" if names else ""


def save(path: str | Path, content: CommitteeFile) -> None:
    """Write a committee file, whole or not at all."""
    json_files.write(Path(path), _json(content), finite=True)


def _json(saved: CommitteeFile) -> dict[str, Any]:
    return {
        "kind": KIND,
        "members": [_member(member) for member in saved.members],
        **serialization.rules(saved.committee),
        "ties": serialization.TIES,
        "classes": saved.classes,
        "class_names": None if saved.class_names is None else list(saved.class_names),
        "calibration": dataclasses.asdict(saved.calibration),
        "results": _plain(saved.results),
        "promise": None if saved.promise is None else _plain(saved.promise),
        **({} if saved.grid is None else {"grid": dataclasses.asdict(saved.grid)}),
        "made_by": dict(saved.made_by),
    }


def _member(member: SavedMember) -> dict[str, Any]:
    return {**dataclasses.asdict(member), "cost": _plain(dataclasses.asdict(member.cost))}


def _plain(value: Any) -> Any:
    """Return plain JSON values; NaN and infinity, which JSON does not have, become null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    value = value.item() if hasattr(value, "item") else value  # a number of numpy's
    return None if isinstance(value, float) and not math.isfinite(value) else value


def load(path: str | Path) -> CommitteeFile:
    """Read and check a committee file; raises UserError that names the file and its fault."""
    path = Path(path)
    content = json_files.read(
        path,
        "a committee.json",
        missing="give a committee.json, which committee.py search writes",
        again='search again (a gate that nothing passes is "never")',
        kind=KIND,
        finite=True,
    )
    try:
        return _saved(content)
    except UserError as fault:
        raise UserError(f"{path}: {fault}") from None


def combined(path: str | Path) -> tuple[list[str], int, Callable[[np.ndarray], np.ndarray]]:
    """Return (NAME=SOURCE of each member, number of classes, function) of a committee file.

    The function decides as the committee does, gates included: it takes the logits of N images and n members,
    [N, n, C], and returns those of the final answers, float32 [N, C].
    """
    content = load(path)
    committee = content.committee
    sources = [f"{member.name}={member.source}" for member in content.members]
    return sources, content.classes, lambda logits: decide(committee, logits).logits.astype(np.float32)


def _saved(content: dict[str, Any]) -> CommitteeFile:
    _typed(content, _FIELDS)
    if content["ties"] != serialization.TIES:
        raise UserError(
            f"ties (of a confidence and its gate) must be {serialization.TIES!r}, got {content['ties']!r}; search again"
        )
    members = tuple(_read_member(member, place) for place, member in enumerate(content["members"]))
    names = content["class_names"]
    if names is not None and not all(isinstance(name, str) for name in names):
        odd = next(name for name in names if not isinstance(name, str))
        raise UserError(f"class_names must be strings, got {odd!r:.60}")
    _typed(content["calibration"], {"name": str, "fingerprint": str, "images": int}, "calibration")
    calibration = {field.name: content["calibration"][field.name] for field in dataclasses.fields(Calibration)}
    return CommitteeFile(
        committee=serialization.committee({**content, "members": [member.name for member in members]}, "members"),
        members=members,
        classes=content["classes"],
        class_names=None if names is None else tuple(names),
        calibration=Calibration(**calibration),
        results=content["results"],
        promise=content["promise"],
        grid=_grid(content["grid"]) if "grid" in content else None,
        made_by=content["made_by"],
    )


def _grid(value: Any) -> Grid:
    kinds = {field.name: field.type for field in dataclasses.fields(Grid)}
    if not isinstance(value, dict) or set(value) != set(kinds):
        raise UserError(f"grid (of cells) must be an object with the keys {', '.join(kinds)}, got {value!r:.60}")
    for name, kind in kinds.items():
        if isinstance(value[name], bool) or not isinstance(value[name], int if kind is int else int | float):
            expected = "an integer" if kind is int else "a number"
            raise UserError(f"{name} of the grid of cells must be {expected}, got {value[name]!r:.60}")
    return Grid(**value)


_FIELDS = {
    "members": list,
    "ties": str,
    "classes": int,
    "class_names": list | None,
    "calibration": dict,
    "results": dict,
    "promise": dict | None,
    "made_by": dict,
}
_OUTPUTS = ("", "logits", "probabilities")
_KINDS = {
    int: "an integer",
    str: "a string",
    list: "a list",
    dict: "an object",
    list | None: "a list or null",
    dict | None: "an object or null",
}
_OF_MEMBER = {"name": str, "kind": str, "source": str, "sha256": str, "input_size": int, "cost": dict}


def _typed(value: Mapping[str, Any], kinds: Mapping[str, Any], part: str = "") -> None:
    """Raise UserError if a key is missing or has another type, or an integer is below 1.

    Args:
        kinds: {key: its type}.
        part: name of `value` in messages; "" is the whole file.
    """
    of = f" of {part}" if part else ""
    for key, kind in kinds.items():
        if key not in value:
            raise UserError(f"{part or 'the file'} has no {key}")
        if not isinstance(value[key], kind) or isinstance(value[key], bool):
            raise UserError(f"{key}{of} must be {_KINDS[kind]}, got {value[key]!r:.60}")
        if kind is int and value[key] < 1:
            raise UserError(f"{key}{of} must be at least 1, got {value[key]}")


def _read_member(content: Any, place: int) -> SavedMember:
    if not isinstance(content, dict):
        raise UserError(f"members[{place}] must be an object, got {content!r:.60}")
    _typed(content, _OF_MEMBER, f"member {content.get('name', place)!r}")
    if not re.fullmatch("([0-9a-f]{64})?", content["sha256"]):
        raise UserError(
            f"sha256 of member {content['name']!r} must be 64 digits of 0-9a-f or empty, got "
            f"{content['sha256']!r:.80}; search again"
        )
    costs = {measure: content["cost"].get(measure) for measure in MEASURES}
    for measure, value in costs.items():
        if value is not None and (not isinstance(value, int | float) or isinstance(value, bool) or value < 0):
            raise UserError(
                f"{measure} of member {content['name']!r} must be a number from 0, or null if unknown, "
                f"got {value!r:.60}"
            )
    cost = Cost(**{measure: math.nan if value is None else value for measure, value in costs.items()})
    outputs = content.get("outputs", "")
    if outputs not in _OUTPUTS:
        raise UserError(
            f"outputs of member {content['name']!r} must be {' or '.join(_OUTPUTS[1:])}, or empty if unknown, "
            f"got {outputs!r:.60}"
        )
    about = {key: content[key] for key in _OF_MEMBER if key != "cost"}
    return SavedMember(**{**about, "kind": member_kinds.current(about["kind"])}, cost=cost, outputs=outputs)
