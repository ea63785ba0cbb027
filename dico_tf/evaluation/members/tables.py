"""Logits that were computed before, and elsewhere: an .npz with labels, ids, and floats [N, C] of each member."""

import hashlib
from pathlib import Path

import numpy as np

from dico_tf.errors import UserError
from dico_tf.evaluation.cost import Cost
from dico_tf.evaluation.members.member import Member, Network
from dico_tf.evaluation.members.spelling import Spelling
from dico_tf.registry import suggestion

OPTIONS = ("macs", "params", "milliseconds")
IDS, LABELS, NAMES = ("ids", "image_ids"), "labels", "class_names"


def members(spelling: Spelling, classes: int) -> list[Member]:
    """Each that the table holds, unless the part names one."""
    spelling.check(OPTIONS)
    if spelling.size:
        raise UserError(f"{spelling.source}: a table of logits has no resolution: leave out @{spelling.size}")
    arrays = _read(Path(spelling.place), spelling.source)
    ids = next((arrays.pop(name) for name in IDS if name in arrays), None)
    labels, names = arrays.pop(LABELS, None), arrays.pop(NAMES, None)
    if ids is None or labels is None:
        raise UserError(f"{spelling.source}: the table has no {' or '.join(IDS)}, or no {LABELS}; "
                        f"it has {', '.join(arrays) or 'nothing'}")  # fmt: skip
    if set(arrays) == {"logits"} and arrays["logits"].ndim == 3:  # a run's predictions
        arrays = {f"branch_{s}": branch for s, branch in enumerate(np.moveaxis(arrays["logits"], 1, 0))}
    if spelling.part and spelling.part not in arrays:
        raise UserError(f"{spelling.source}: the table has no {spelling.part!r}; {suggestion(spelling.part, arrays)}")
    chosen = [spelling.part] if spelling.part else list(arrays)
    if spelling.options and len(chosen) > 1:
        raise UserError(f"{spelling.source}: costs are of one member: name it as in {spelling.place}:{chosen[0]}")
    shared = {"ids": ids.astype(np.str_), "labels": labels, "names": names}
    return [_member(spelling, name, arrays[name], **shared) for name in chosen]


def _read(path: Path, source: str) -> dict[str, np.ndarray]:
    try:
        with open(path, "rb") as file:
            return dict(np.load(file, allow_pickle=False))
    except Exception as fault:  # numpy and zipfile raise a dozen kinds over bytes that are not theirs
        raise UserError(f"{source} is damaged, cut short or no .npz of logits ({fault})") from fault


def _member(spelling: Spelling, name: str, logits: np.ndarray, ids: np.ndarray, labels: np.ndarray, names) -> Member:
    if logits.ndim != 2 or logits.dtype.kind != "f" or not len(logits) == len(ids) == len(labels):
        raise UserError(f"{spelling.source}: {name} is {logits.dtype} {list(logits.shape)} with {len(ids)} ids and "
                        f"{len(labels)} labels: floats [N, C] are needed, a row for each id")  # fmt: skip
    digest = hashlib.sha256("\n".join(ids).encode("utf-8", "surrogateescape"))
    digest.update(f"\0{logits.dtype} {logits.shape}\0".encode() + np.ascontiguousarray(logits).tobytes())
    numbers = {option: spelling.number(option, float("nan"), float) for option in OPTIONS}
    return Member(
        name=f"{spelling.name}.{name}" if spelling.name else name,
        kind=spelling.kind,
        source=spelling.spelt(name),
        weights=digest.hexdigest(),
        input_size=0,
        short_side=0,
        class_names=None if names is None else tuple(map(str, names)),
        load=lambda: Network(answer=lambda images: images, cost=Cost(**numbers)),
        stored=lambda wanted, truth: _rows(spelling.source, name, logits, ids, labels, wanted, truth),
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
