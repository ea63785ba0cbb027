"""What every member says about the images of a split, each at its own size; asked once, then read from the disk."""

import dataclasses
import logging
from collections.abc import Callable, Sequence

import numpy as np

from dico_tf.data.source import Source, Split
from dico_tf.errors import UserError
from dico_tf.evaluation.cost import Cost
from dico_tf.evaluation.members import latency
from dico_tf.evaluation.members.cache import Cache
from dico_tf.evaluation.members.image_batches import ImageBatches, fingerprint
from dico_tf.evaluation.members.member import Member
from dico_tf.training.progress import Bar

_TIMED = 16  # images that every member is timed on
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class MemberLogits:
    """All that a search looks at, as plain values."""

    logits: dict[str, np.ndarray]  # of each member, float32 [N, C]
    labels: np.ndarray  # int64 [N]
    ids: np.ndarray  # str [N]
    costs: dict[str, Cost]
    class_names: tuple[str, ...]
    checksums: dict[str, str]
    fingerprint: str  # of the images
    asked: tuple[str, ...]  # members whose networks ran now; of the others it was known
    outputs: dict[str, str]  # of each: logits or probabilities; nothing where that is not known


def collect_logits(
    members: Sequence[Member],
    source: Source,
    split: str,
    cache: Cache | None = None,
    *,
    timed: bool = True,
    say: Callable[[str], None] = _log.info,
) -> MemberLogits:
    """Logits, labels, ids and costs. What is complete when it is interrupted is kept, and not asked again."""
    part = _part(source, split)
    check_classes(members, source)
    seen = fingerprint(source, part)
    logits: dict[str, np.ndarray] = {}
    costs: dict[str, Cost] = {}
    asked = []
    for member in members:
        found = cache.logits(member.checksum, seen, split, part.size) if cache else None
        if found is not None:
            check_width(member, found.shape[1], source)
        elif member.stored:
            found = member.stored(part.ids, part.labels)
            check_width(member, found.shape[1], source)
        else:
            found = _asked(member, part, source)
            asked.append(member.name)
            if cache:
                cache.keep(member.checksum, seen, split, found)
        logits[member.name] = found
        costs[member.name] = _cost(member, part, cache, timed, say)
        lost = int((~np.isfinite(found)).any(1).sum())
        if lost:
            _log.warning("%s says NaN or infinity about %d of %d images", member.name, lost, part.size)
    return MemberLogits(
        logits=logits,
        labels=part.labels,
        ids=part.ids,
        costs=costs,
        class_names=source.class_names,
        checksums={member.name: member.checksum for member in members},
        fingerprint=seen,
        asked=tuple(asked),
        outputs={m.name: m.decoder.kind or (cache.outputs(m.checksum) if cache else "") for m in members},
    )


def _part(source: Source, split: str) -> Split:
    if split not in source.splits:
        raise UserError(f"{source.name} has no images {split!r}; it has {', '.join(source.splits)}")
    if not source.splits[split].size:
        raise UserError(f"{source.name} has no image in {split}: there is nothing to ask the members about")
    return source.splits[split]


def check_classes(members: Sequence[Member], source: Source) -> None:
    """Members whose class names are known must have the data's, in the data's order."""
    for member in members:
        if member.class_names is None:
            continue
        if len(member.class_names) != len(source.class_names):
            raise UserError(_numbers(member, len(member.class_names), source))
        ours, theirs = source.class_names, member.class_names
        odd = [n for n, names in enumerate(zip(ours, theirs, strict=True)) if _differ(n, *names)]
        if odd:
            n = odd[0]
            order = "orders the classes otherwise" if set(ours) == set(theirs) else "knows other classes"
            raise UserError(
                f"{member.name} {order} than {source.name}: class {n} is {theirs[n]!r} to {member.name} and "
                f"{ours[n]!r} in {source.name}; members and data need the same classes in the same order"
            )


def _differ(number: int, a: str, b: str) -> bool:
    """A class that has only its number for a name is any."""
    return a != b and f"class_{number}" not in (a, b)


def _numbers(member: Member, count: int, source: Source) -> str:
    more = count == len(source.class_names) + 1 and member.decoder.settings["background"] != "none"
    background = f"; if the first is a background class, write {member.source}:background" if more else ""
    return (
        f"{member.name} knows {count} classes and {source.name} {len(source.class_names)} "
        f"({source.class_names[0]!r} to {source.class_names[-1]!r}){background}"
    )


def check_width(member: Member, count: int, source: Source) -> None:
    """Raise UserError where a member answers with another number of classes than the data has."""
    if count != len(source.class_names):
        raise UserError(_numbers(member, count, source))


def _asked(member: Member, part: Split, source: Source) -> np.ndarray:
    found = []
    bar = Bar(f"asking {member.name}", part.size)
    try:
        for images in ImageBatches(part, member.input_size, member.short_side).batches():
            found.append(member.run(images))
            check_width(member, found[-1].shape[1], source)
            bar.advance(len(images), {})
    finally:
        bar.close()
    return np.concatenate(found)


def _cost(member: Member, part: Split, cache: Cache | None, timed: bool, say: Callable[[str], None]) -> Cost:
    """As known before, or counted, and timed where that was asked for and can be."""
    machine = latency.machine()
    known = cache.cost(member.checksum, machine) if cache else None
    cost, said = known or (member.cost, member.decoder.said)
    untimed = timed and np.isnan(cost.milliseconds) and not member.stored
    if untimed:
        some = np.linspace(0, part.size - 1, min(_TIMED, part.size)).round().astype(int)
        images = ImageBatches(part, member.input_size, member.short_side).take(some)
        cost = dataclasses.replace(cost, milliseconds=latency.milliseconds(member, images))
        said = said or member.decoder.said
    if said:
        say(said)
    if cache and (untimed or known is None) and not member.stored:
        cache.keep_cost(member.checksum, cost, machine, said, member.decoder.kind or cache.outputs(member.checksum))
    return cost
