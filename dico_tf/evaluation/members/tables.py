"""Members that are tables of logits: an .npz with labels, ids, and float logits [N, C] of each member."""

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
    """Return each member of the table, or the one that the URI names; `classes` is not used."""
    uri.check(OPTIONS)
    if uri.size:
        raise UserError(f"{uri.source}: a table of logits has no image size: leave out @{uri.size}")
    table = tables.read(uri.place)
    if uri.part and uri.part not in table.logits:
        near = suggestion(uri.part, table.logits)
        raise UserError(f"{uri.source}: the table has no {uri.part!r}; {near}")
    chosen = [uri.part] if uri.part else list(table.logits)
    if uri.options and len(chosen) > 1:
        raise UserError(f"{uri.source}: the options are the cost of one member: name it, as in {uri.place}:{chosen[0]}")
    return [_member(uri, name, table) for name in chosen]


def _member(uri: MemberURI, name: str, table: LogitTable) -> Member:
    logits, ids, labels = table.logits[name], table.ids.astype(np.str_), table.labels
    if logits.ndim != 2 or logits.dtype.kind != "f" or not len(logits) == len(ids) == len(labels):
        raise UserError(
            f"{uri.source}: {name}: expected floats [N, C], a row for each id and label, got {logits.dtype} "
            f"{list(logits.shape)}, {len(ids)} ids and {len(labels)} labels"
        )
    digest = hashlib.sha256("\n".join(ids).encode("utf-8", "surrogateescape"))
    digest.update(f"\0{logits.dtype} {logits.shape}\0".encode() + np.ascontiguousarray(logits).tobytes())
    numbers = {option: uri.number(option, float("nan"), float) for option in OPTIONS}
    return Member(
        name=f"{uri.name}.{name}" if uri.name else name,
        kind=uri.kind,
        source=uri.with_part(name),
        weights=digest.hexdigest(),
        input_size=0,
        short_side=0,
        class_names=table.class_names,
        load=lambda: LoadedNetwork(answer=lambda images: images, cost=Cost(**numbers)),
        stored=lambda images, truth: _rows(uri.source, name, logits, ids, labels, images, truth),
    )


def _rows(source: str, name: str, logits, ids, labels, images: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return a table's logits of images, which are looked up by their ids.

    If an id is missing, all are looked up by the stems of their file names, provided that the stems differ.

    Args:
        source, name: URI and member, for messages.
        logits, ids, labels: rows of the table.
        images, truth: ids to look up, and their labels in the data.

    Raises:
        UserError: if the table has an id twice or lacks an image, or if a label differs from `truth`.
    """
    places = {known: row for row, known in enumerate(ids.tolist())}
    if len(places) < len(ids):
        twice = next(one for row, one in enumerate(ids.tolist()) if places[one] != row)
        raise UserError(f"{source}: the table has the id {twice} twice")
    rows = [places.get(image) for image in images.tolist()]
    if None in rows:
        stems = {Path(known).stem: row for known, row in places.items()}
        if len(stems) == len(places) and len({Path(image).stem for image in images.tolist()}) == len(images):
            rows = [stems.get(Path(image).stem) for image in images.tolist()]
    missing = [image for image, row in zip(images.tolist(), rows, strict=True) if row is None]
    if missing:
        raise UserError(
            f"{source}: {name} has no logits of {len(missing)} of {len(images)} images, such as "
            f"{missing[0]}; the table's ids are like {ids[0]}"
        )
    other = labels[rows] != truth
    if other.any():
        first = int(other.argmax())
        raise UserError(
            f"{source}: {other.sum()} of {len(images)} labels differ between table and data, such as "
            f"{labels[rows][first]} and {truth[first]} of {images[first]}: the table numbers the classes "
            "in another way, or is of other images"
        )
    return logits[rows].astype(np.float32)
