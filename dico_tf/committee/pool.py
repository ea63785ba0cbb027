"""What every member said about the same labelled images, and what it costs: all that a search looks at."""

import dataclasses
import hashlib
import os
from collections.abc import Mapping, Sequence

import numpy as np

from dico_tf.errors import UserError
from dico_tf.evaluation.cost import Cost
from dico_tf.evaluation.metrics import checked_labels
from dico_tf.files import tables
from dico_tf.registry import suggestion


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Pool:
    logits: Mapping[str, np.ndarray]  # of each member, float [N, C]
    labels: np.ndarray  # int64 [N]
    ids: np.ndarray  # str [N]
    costs: Mapping[str, Cost] = dataclasses.field(default_factory=dict)
    name: str = ""
    class_names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if fault := _fault(self.logits, self.labels, self.ids):
            raise UserError(f"{self.name or 'the table of logits'}: {fault}")
        if self.class_names and len(self.class_names) != self.classes:
            raise UserError(f"{self.name}: {len(self.class_names)} class_names, and logits of {self.classes} classes")
        object.__setattr__(self, "labels", checked_labels(self.labels, len(self.labels), self.classes))
        object.__setattr__(self, "ids", np.asarray(self.ids).astype(np.str_))

    @property
    def members(self) -> tuple[str, ...]:
        return tuple(self.logits)

    @property
    def classes(self) -> int:
        return next(iter(self.logits.values())).shape[1]

    @property
    def size(self) -> int:
        return len(self.labels)

    def stacked(self, members: Sequence[str]) -> np.ndarray:
        """[N, n, C]"""
        for member in members:
            if member not in self.logits:
                raise UserError(f"no member {member!r} in {self.name or 'the pool'}; {suggestion(member, self.logits)}")
        return np.stack([self.logits[member] for member in members], 1)

    def cost(self, member: str, measure: str) -> float:
        return self.costs.get(member, Cost()).of(measure)

    def subset(self, positions: np.ndarray) -> "Pool":
        logits = {member: values[positions] for member, values in self.logits.items()}
        return dataclasses.replace(self, logits=logits, labels=self.labels[positions], ids=self.ids[positions])

    def halves(self, share: float, seed: int) -> tuple["Pool", "Pool"]:
        """Two parts without a common image, drawn by seed; the first has `share` of them."""
        order = np.random.default_rng(seed).permutation(self.size)
        cut = round(share * self.size)
        if not 0 < cut < self.size:
            raise UserError(f"{self.size} images cannot be split {share:g} to {1 - share:g}: one part would be empty")
        return self.subset(np.sort(order[:cut])), self.subset(np.sort(order[cut:]))

    @property
    def fingerprint(self) -> str:
        """Of the images and their labels, not of what members said."""
        digest = hashlib.sha256(self.labels.astype("<i8").tobytes())
        digest.update("\n".join(self.ids).encode("utf-8", "surrogateescape"))
        return digest.hexdigest()[:16]


def _fault(logits: Mapping[str, np.ndarray], labels: np.ndarray, ids: np.ndarray) -> str:
    if not logits:
        return "there are no members"
    shapes = {member: np.shape(values) for member, values in logits.items()}
    odd = [member for member, values in logits.items() if np.ndim(values) != 2 or np.asarray(values).dtype.kind != "f"]
    if odd:
        return f"logits of {odd[0]} are {np.asarray(logits[odd[0]]).dtype} {list(shapes[odd[0]])}, not floats [N, C]"
    first, *others = shapes
    if 0 in shapes[first]:
        return f"logits of {first} have shape {list(shapes[first])}: there is nothing to learn from"
    for other in others:
        if shapes[other][1] != shapes[first][1]:
            return (
                f"{first} knows {shapes[first][1]} classes and {other} {shapes[other][1]}: members of a committee "
                "answer with the same classes in the same order"
            )
        if shapes[other][0] != shapes[first][0]:
            return f"{first} has answered {shapes[first][0]} images and {other} {shapes[other][0]}"
    for name, values in (("labels", labels), ("ids", ids)):
        if np.ndim(values) != 1:
            return f"{name} have shape {list(np.shape(values))}, expected one for each image"
    if not len(labels) == len(ids) == shapes[first][0]:
        return f"{shapes[first][0]} answers of {first}, {len(labels)} labels, {len(ids)} ids"
    if len(set(np.asarray(ids).tolist())) < len(ids):
        return "an id stands twice: every image counts once"
    return ""


def apart(calibration: Pool, test: Pool) -> None:
    """Refused where an image that fitted the committee would also judge it."""
    both = np.intersect1d(calibration.ids, test.ids)
    if len(both):
        raise UserError(
            f"{len(both)} images are in the calibration and in the test images, such as {both[0]}: a committee that "
            "was fitted to an image cannot be judged by it; give other images for one of them"
        )


def read(path: str | os.PathLike, costs: Mapping[str, Cost] | None = None) -> Pool:
    """Load a table of logits, such as a run's predictions."""
    table = tables.read(path)
    return Pool(
        logits=table.logits,
        labels=table.labels,
        ids=table.ids,
        costs=dict(costs or {}),
        name=str(path),
        class_names=table.class_names,
    )
