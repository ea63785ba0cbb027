"""committee.json: who is asked in what order, the gates, what they were fitted to, and what came of it."""

import dataclasses
import importlib.metadata
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dico_tf import __version__
from dico_tf.committee import serialization
from dico_tf.committee.decision import Committee
from dico_tf.committee.dense.grid import Grid
from dico_tf.errors import UserError
from dico_tf.evaluation.cost import MEASURES, Cost
from dico_tf.files import json_files, member_kinds

KIND = "dico_tf committee"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SavedMember:
    name: str
    kind: str  # of files/member_kinds.py
    source: str  # where it was found
    sha256: str  # of its weights, or file; "" where that is not known
    input_size: int  # pixels
    outputs: str = ""  # what its outputs were read as: logits or probabilities; "" where that is not known
    cost: Cost = dataclasses.field(default_factory=Cost)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Calibration:
    """The images that everything was fitted to."""

    name: str
    fingerprint: str
    images: int


def _versions() -> dict[str, str]:
    return {"dico_tf": __version__, "numpy": importlib.metadata.version("numpy")}


@dataclasses.dataclass(frozen=True, kw_only=True)
class CommitteeFile:
    committee: Committee
    members: tuple[SavedMember, ...]  # in the committee's order
    classes: int
    class_names: tuple[str, ...] | None
    calibration: Calibration
    results: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    promise: Mapping[str, Any] | None = None
    grid: Grid | None = None  # of members that classify pixels
    made_by: Mapping[str, str] = dataclasses.field(default_factory=_versions)

    def __post_init__(self) -> None:
        names = tuple(member.name for member in self.members)
        if names != self.committee.members:
            raise UserError(f"members are {', '.join(names)}, and those asked {', '.join(self.committee.members)}")
        if self.class_names is not None and len(self.class_names) != self.classes:
            raise UserError(f"{len(self.class_names)} class_names, and classes is {self.classes}")


def changed(saved: CommitteeFile, checksums: Mapping[str, str]) -> list[str]:
    """Members that are not those the gates were fitted to; one whose checksum is not known on a side is not judged."""
    pairs = [(member, checksums.get(member.name, "")) for member in saved.members]
    return [member.name for member, found in pairs if member.sha256 and found and found != member.sha256]


def stale(saved: CommitteeFile, checksums: Mapping[str, str]) -> str:
    """The warning, or nothing."""
    names = changed(saved, checksums)
    who = f"member {names[0]} is" if len(names) == 1 else f"members {', '.join(names)} are"
    one = "the one" if len(names) == 1 else "those"
    return f"the gates are stale: {who} not {one} they were fitted to; search again" if names else ""


def save(path: str | Path, saved: CommitteeFile) -> None:
    json_files.write(Path(path), _content(saved), finite=True)


def _content(saved: CommitteeFile) -> dict[str, Any]:
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
    """What JSON has no word for, as null: what is not known, or infinite."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    value = value.item() if hasattr(value, "item") else value  # a number of numpy's
    return None if isinstance(value, float) and not math.isfinite(value) else value


def load(path: str | Path) -> CommitteeFile:
    """UserError that names the file and what is wrong with it."""
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


def _saved(content: dict[str, Any]) -> CommitteeFile:
    _typed(content, _FIELDS, "it")
    if content["ties"] != serialization.TIES:
        raise UserError(f"ties are {content['ties']!r}, and this version knows {serialization.TIES!r}: search again")
    members = tuple(_read_member(said, place) for place, said in enumerate(content["members"]))
    names = content["class_names"]
    if names is not None and not all(isinstance(name, str) for name in names):
        raise UserError("class_names are not all strings")
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


def _grid(said: Any) -> Grid:
    kinds = {field.name: field.type for field in dataclasses.fields(Grid)}
    if not isinstance(said, dict) or set(said) != set(kinds):
        raise UserError(f"grid is {said!r:.60}, expected {', '.join(kinds)}")
    for name, kind in kinds.items():
        if isinstance(said[name], bool) or not isinstance(said[name], int if kind is int else int | float):
            raise UserError(f"{name} of the grid is {said[name]!r:.60}, which cannot be")
    return Grid(**said)


_FIELDS = {
    "members": list, "ties": str, "classes": int, "class_names": list | None, "calibration": dict, "results": dict,
    "promise": dict | None, "made_by": dict,
}  # fmt: skip
_OUTPUTS = ("", "logits", "probabilities")
_OF_MEMBER = {"name": str, "kind": str, "source": str, "sha256": str, "input_size": int, "cost": dict}


def _typed(said: Mapping[str, Any], kinds: Mapping[str, Any], what: str) -> None:
    for key, kind in kinds.items():
        if key not in said:
            raise UserError(f"{what} has no {key}")
        if not isinstance(said[key], kind) or isinstance(said[key], bool):
            raise UserError(f"{key} of {what} is {said[key]!r:.60}, which cannot be")
        if kind is int and said[key] < 1:
            raise UserError(f"{key} of {what} is {said[key]}: at least 1 is meant")


def _read_member(said: Any, place: int) -> SavedMember:
    if not isinstance(said, dict):
        raise UserError(f"member {place} is {said!r:.60}, which cannot be")
    _typed(said, _OF_MEMBER, f"member {said.get('name', place)!r}")
    if not re.fullmatch("([0-9a-f]{64})?", said["sha256"]):
        raise UserError(f"sha256 of member {said['name']!r} is {said['sha256']!r:.80}: 64 digits of 0-9a-f, or none")
    costs = {measure: said["cost"].get(measure) for measure in MEASURES}
    for measure, value in costs.items():
        if value is not None and (not isinstance(value, int | float) or isinstance(value, bool) or value < 0):
            raise UserError(f"{measure} of member {said['name']!r} are {value!r:.60}: a number, or null if not known")
    cost = Cost(**{measure: math.nan if value is None else value for measure, value in costs.items()})
    outputs = said.get("outputs", "")
    if outputs not in _OUTPUTS:
        raise UserError(f"outputs of member {said['name']!r} are {outputs!r:.60}: {' or '.join(_OUTPUTS[1:])}")
    about = {key: said[key] for key in _OF_MEMBER if key != "cost"}
    return SavedMember(**{**about, "kind": member_kinds.current(about["kind"])}, cost=cost, outputs=outputs)
