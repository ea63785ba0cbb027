"""Logits that were computed before, and elsewhere: an .npz with labels, ids, and floats [N, C] of each member."""

import hashlib
from pathlib import Path

import numpy as np

from dico_tf.errors import UserError
from dico_tf.evaluation.cost import Cost
from dico_tf.evaluation.members.member import LoadedNetwork, Member
from dico_tf.evaluation.members.member_uri import MemberURI
from dico_tf.files import tables
from dico_tf.files.tables import LogitTable
from dico_tf.registry import suggestion

OPTIONS = ("macs", "params", "milliseconds")


def members(uri: MemberURI, classes: int) -> list[Member]:
    """Each that the table holds, unless the part names one."""
    uri.check(OPTIONS)
    if uri.size:
        raise UserError(f"{uri.source}: a table of logits has no resolution: leave out @{uri.size}")
    table = tables.read(uri.place)
    if uri.part and uri.part not in table.logits:
        near = suggestion(uri.part, table.logits)
        raise UserError(f"{uri.source}: the table has no {uri.part!r}; {near}")
    chosen = [uri.part] if uri.part else list(table.logits)
    if uri.options and len(chosen) > 1:
        raise UserError(f"{uri.source}: costs are of one member: name it as in {uri.place}:{chosen[0]}")
    return [_member(uri, name, table) for name in chosen]


def _member(uri: MemberURI, name: str, table: LogitTable) -> Member:
    logits, ids, labels = table.logits[name], table.ids.astype(np.str_), table.labels
    if logits.ndim != 2 or logits.dtype.kind != "f" or not len(logits) == len(ids) == len(labels):
        raise UserError(f"{uri.source}: {name} is {logits.dtype} {list(logits.shape)} with {len(ids)} ids and "
                        f"{len(labels)} labels: floats [N, C] are needed, a row for each id")  # fmt: skip
    digest = hashlib.sha256("\n".join(ids).encode("utf-8", "surrogateescape"))
    digest.update(f"\0{logits.dtype} {logits.shape}\0".encode() + np.ascontiguousarray(logits).tobytes())
    numbers = {option: uri.number(option, float("nan"), float) for option in OPTIONS}
    return Member(
        name=f"{uri.name}.{name}" if uri.name else name,
        kind=uri.kind,
        source=uri.spelt(name),
        weights=digest.hexdigest(),
        input_size=0,
        short_side=0,
        class_names=table.class_names,
        load=lambda: LoadedNetwork(answer=lambda images: images, cost=Cost(**numbers)),
        stored=lambda wanted, truth: _rows(uri.source, name, logits, ids, labels, wanted, truth),
    )


def _rows(source: str, name: str, logits, ids, labels, wanted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The rows of the images wanted, found by id; by the stem of the file's name where all differ in it."""
    places = {known: row for row, known in enumerate(ids.tolist())}
    if len(places) < len(ids):
        raise UserError(f"{source}: an id stands twice in the table")
    found = [places.get(image) for image in wanted.tolist()]
    if None in found:
        stems = {Path(known).stem: row for known, row in places.items()}
        if len(stems) == len(places) and len({Path(image).stem for image in wanted.tolist()}) == len(wanted):
            found = [stems.get(Path(image).stem) for image in wanted.tolist()]
    missing = [image for image, row in zip(wanted.tolist(), found, strict=True) if row is None]
    if missing:
        raise UserError(f"{source}: {name} says nothing about {len(missing)} of {len(wanted)} images, such as "
                        f"{missing[0]}; the table's ids are like {ids[0]}")  # fmt: skip
    other = labels[found] != truth
    if other.any():
        first = int(other.argmax())
        raise UserError(f"{source}: {other.sum()} of {len(wanted)} labels of the table are not the data's, such as "
                        f"{labels[found][first]} and {truth[first]} of {wanted[first]}: they number the classes "
                        "otherwise, or are of other images")  # fmt: skip
    return logits[found].astype(np.float32)
