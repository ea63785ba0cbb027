"""Members of an export, by its manifest: their files with the class names, sizes and costs it states."""

import contextlib
import dataclasses
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

_READERS = {SAVED_MODEL: saved_models, "onnx": onnx}  # of kinds of files; all others are LiteRT's


def members(uri: MemberURI, classes: int) -> list[Member]:
    """Each branch, unless the part names a member."""
    uri.check(OPTIONS)
    with _named(uri.source):
        export = manifest.load(uri.place)
        names = [uri.part] if uri.part else export.branches
        return [_member(uri, export, name) for name in names]


@contextlib.contextmanager
def _named(source: str) -> Iterator[None]:
    """Put the member's source before the message of a UserError."""
    try:
        yield
    except UserError as error:
        known = str(error).startswith(source)
        raise error if known else UserError(f"{source}: {error}") from None


def _member(uri: MemberURI, export: Manifest, name: str) -> Member:
    about = export.member(name)
    kind = uri.options.get("format", "")
    files = about["files"]
    if not files or (kind and kind not in files):
        raise UserError(f"{uri.source}: {about['name']} has no file {kind!r}; it has {', '.join(files)}")
    kind = kind or (SAVED_MODEL if SAVED_MODEL in files else next(iter(files)))
    manifest.verify(export, name, kind)
    path = export.path(name, kind)
    how = about.get(manifest.READING, {}) if kind != SAVED_MODEL else {}  # of a file that was taken as it is
    options = {key: how[key] for key in ("pixels", "outputs", "background", "output") if key in how}
    inner = dataclasses.replace(uri, place=str(path), part="", options=options or {"output": "logits"})
    found = _READERS.get(kind, tflite).members(inner, len(about["class_names"]))[0]
    price = Cost(macs=float(about["macs"]), params=float(about["params"]))
    return dataclasses.replace(
        found,
        name=uri.label(about["name"], kind if "format" in uri.options else ""),
        short_side=about["short_side"],
        class_names=tuple(about["class_names"]),
        settings={**found.settings, "file": kind},
        load=lambda: _priced(found.load(), price),
        source=uri.spelt(about["name"]),
        decoder=found.decoder if how else OutputDecoder("logits", "none"),
    )


def _priced(network: LoadedNetwork, price: Cost) -> LoadedNetwork:
    """Files of an export cost what the manifest says, whatever their conversion made of it."""
    return dataclasses.replace(network, cost=price)


def owner(path: Path) -> Path | None:
    """Return the manifest that describes this SavedModel, if it stands in an export."""
    described = path.absolute().parent.parent / manifest.NAME
    if path.absolute().parent.name != SAVED_MODEL or not described.is_file():
        return None
    with _named(str(path)):
        return described if path.name in manifest.load(described).names else None
