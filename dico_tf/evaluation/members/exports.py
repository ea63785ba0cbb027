"""Members that are files of an export, with the class names, short sides and costs of its manifest."""

import contextlib
import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path

from dico_tf.errors import UserError
from dico_tf.evaluation.cost import Cost
from dico_tf.evaluation.members import onnx, saved_models, tflite
from dico_tf.evaluation.members.member import LoadedNetwork, Member
from dico_tf.evaluation.members.member_uri import MemberURI
from dico_tf.evaluation.members.output_decoding import OutputDecoder
from dico_tf.files import manifest
from dico_tf.files.manifest import SAVED_MODEL, Manifest

OPTIONS = ("format",)

_MODULES = {SAVED_MODEL: saved_models, "onnx": onnx}  # kind of file -> module that opens it; all others are LiteRT


def members(uri: MemberURI, classes: int) -> list[Member]:
    """Return each member of the export's committee, or the one that the URI names; `classes` is not used."""
    uri.check(OPTIONS)
    with _prefixed(uri.source):
        export = manifest.load(uri.place)
        names = [uri.part] if uri.part else export.branches
        return [_member(uri, export, name) for name in names]


@contextlib.contextmanager
def _prefixed(source: str) -> Iterator[None]:
    """Put the member's URI before the message of a UserError, unless the message begins with it."""
    try:
        yield
    except UserError as error:
        raise error if str(error).startswith(source) else UserError(f"{source}: {error}") from None


def _member(uri: MemberURI, export: Manifest, name: str) -> Member:
    about = export.member(name)
    kind = uri.options.get("format", "")
    files = about["files"]
    if not files:
        raise UserError(
            f"{uri.source}: the export has no file for its member {about['name']}; its members with files are "
            f"{', '.join(name for name in export.names if export.member(name)['files']) or 'none'}"
        )
    if kind and kind not in files:
        raise UserError(
            f"{uri.source}: ?format={kind}: {about['name']} has no such file; give one of {', '.join(files)}"
        )
    kind = kind or (SAVED_MODEL if SAVED_MODEL in files else next(iter(files)))
    manifest.verify(export, name, kind)
    path = export.path(name, kind)
    how = about.get(manifest.READING, {}) if kind != SAVED_MODEL else {}  # for a file that was copied unchanged
    options = {key: how[key] for key in ("pixels", "outputs", "background", "output") if key in how}
    inner = dataclasses.replace(uri, place=str(path), part="", options=options or {"output": "logits"})
    opened = _MODULES.get(kind, tflite).members(inner, len(about["class_names"]))[0]
    cost = Cost(macs=about["macs"] or math.nan, params=about["params"] or math.nan)  # the manifest's 0 is unknown
    return dataclasses.replace(
        opened,
        name=uri.label(about["name"], kind if "format" in uri.options else ""),
        short_side=about["short_side"],
        class_names=tuple(about["class_names"]),
        settings={**opened.settings, "file": kind},
        load=lambda: _with_cost(opened.load(), cost),
        source=uri.with_part(about["name"]),
        decoder=opened.decoder if how else OutputDecoder("logits", "none"),
    )


def _with_cost(network: LoadedNetwork, cost: Cost) -> LoadedNetwork:
    """Return the network with the manifest's cost, where it is known: a converted file counts differently."""
    return dataclasses.replace(network, cost=cost.over(network.cost))


def owner(path: Path) -> Path | None:
    """Return the path of the manifest of the export that has this SavedModel as a member, or None if there is none."""
    file = path.absolute().parent.parent / manifest.NAME
    if path.absolute().parent.name != SAVED_MODEL or not file.is_file():
        return None
    with _prefixed(str(path)):
        return file if path.name in manifest.load(file).names else None
