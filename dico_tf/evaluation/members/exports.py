"""Members of an export, by its manifest: their files with the class names, sizes and costs it states."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from dico_tf.errors import UserError
from dico_tf.evaluation.cost import Cost
from dico_tf.evaluation.members import saved_models, tflite
from dico_tf.evaluation.members.member import Member, Network
from dico_tf.evaluation.members.reading import Reading
from dico_tf.evaluation.members.spelling import Spelling
from dico_tf.files.checksums import checksum
from dico_tf.registry import suggestion

OPTIONS = ("format",)
NAME, KIND, SAVED_MODEL = "manifest.json", "dico_tf export", "saved_model"


def members(spelling: Spelling, classes: int) -> list[Member]:
    """Each branch, unless the part names a member."""
    spelling.check(OPTIONS)
    path = Path(spelling.place)
    path = path / NAME if path.is_dir() else path
    content = _content(path, spelling.source)
    known = {member["name"]: member for member in content["members"]}
    if spelling.part and spelling.part not in known:
        raise UserError(f"{spelling.source}: the export has no member {spelling.part!r}; "
                        f"{suggestion(spelling.part, known)}")  # fmt: skip
    names = [spelling.part] if spelling.part else content["committee"]["members"]
    return [_member(spelling, path.parent, known[name]) for name in names]


def _content(path: Path, source: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
        if content["kind"] == KIND and content["format"] == 1:
            return content
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{source}: {path} is no manifest of an export, or half of one ({error})") from error
    raise UserError(f"{source}: {path} is not the manifest of an export of this version: export again")


def _member(spelling: Spelling, folder: Path, about: dict[str, Any]) -> Member:
    kind = spelling.options.get("format", "")
    files = about["files"]
    if not files or (kind and kind not in files):
        raise UserError(f"{spelling.source}: {about['name']} has no file {kind!r}; it has {', '.join(files)}")
    kind = kind or (SAVED_MODEL if SAVED_MODEL in files else next(iter(files)))
    path = folder / files[kind]["path"]
    if not path.exists() or checksum(path)[0] != files[kind]["sha256"]:
        fault = "is not the one exported" if path.exists() else "is missing"
        raise UserError(f"{spelling.source}: {path} {fault}: the export is half copied or tampered with; copy it again")
    how = about.get("reading", {}) if kind != SAVED_MODEL else {}  # of a file that was taken as it is
    options = {key: how[key] for key in ("pixels", "outputs", "background", "output") if key in how}
    inner = dataclasses.replace(spelling, place=str(path), part="", options=options or {"output": "logits"})
    found = (saved_models if kind == SAVED_MODEL else tflite).members(inner, len(about["class_names"]))[0]
    price = Cost(macs=float(about["macs"]), params=float(about["params"]))
    return dataclasses.replace(
        found,
        name=spelling.label(about["name"], kind if "format" in spelling.options else ""),
        short_side=about["short_side"],
        class_names=tuple(about["class_names"]),
        settings={**found.settings, "file": kind},
        load=lambda: _priced(found.load(), price),
        source=spelling.spelt(about["name"]),
        reading=found.reading if how else Reading("logits", "none"),
    )


def _priced(network: Network, price: Cost) -> Network:
    """Files of an export cost what the manifest says, whatever their conversion made of it."""
    return dataclasses.replace(network, cost=price)


def owner(path: Path) -> Path | None:
    """The manifest that describes this SavedModel, if it stands in an export."""
    manifest = path.absolute().parent.parent / NAME
    if path.absolute().parent.name != SAVED_MODEL or not manifest.is_file():
        return None
    known = {member["name"] for member in _content(manifest, str(path))["members"]}
    return manifest if path.name in known else None
