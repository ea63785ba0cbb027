"""Logits and costs of all members on a split, each at its own image size; computed once, then read from the cache."""

import dataclasses
import itertools
import logging
import platform
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np

from dico_tf.data import image_decoding
from dico_tf.data.source import Source, Split
from dico_tf.errors import UserError
from dico_tf.evaluation.cost import Cost
from dico_tf.evaluation.members.cache import Cache
from dico_tf.evaluation.members.image_batches import ImageBatches, fingerprint
from dico_tf.evaluation.members.member import Member
from dico_tf.training.progress import Bar

_TIMED = 16  # images on which each member is timed
_WARM, _LEAST, _MOST = 5, 20, 200  # calls: untimed ones first, then the least and the most that are timed
_SECONDS = 2.0  # no call beyond the least number is made after this time
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class MemberLogits:
    """Logits and costs of all members on one split: all that a committee search needs."""

    logits: dict[str, np.ndarray]  # by member, float32 [N, C]
    labels: np.ndarray  # int64 [N]
    ids: np.ndarray  # str [N]
    costs: dict[str, Cost]  # by member
    class_names: tuple[str, ...]
    checksums: dict[str, str]  # by member
    fingerprint: str  # identifies the images
    computed: tuple[str, ...]  # members whose networks ran now; the logits of others were cached or stored
    outputs: dict[str, str]  # by member: "logits" or "probabilities", which its network gives; "" = unknown


def collect_logits(
    members: Sequence[Member],
    source: Source,
    split: str,
    cache: Cache | None = None,
    *,
    timed: bool = True,
    say: Callable[[str], None] = _log.info,
) -> MemberLogits:
    """Return the logits and costs of all members on a split. Each member is cached as soon as it is complete.

    Raises UserError if the split is missing or empty, or if a member has other classes than the data.

    Args:
        split: name of the split.
        cache: is read and written; None = no cache.
        timed: measure milliseconds that are not cached; if False, these are NaN.
        say: called with a sentence about the outputs of each member for which logits or probabilities were detected.
    """
    images = _split(source, split)
    check_classes(members, source)
    stamp = fingerprint(source, images)
    logits: dict[str, np.ndarray] = {}
    costs: dict[str, Cost] = {}
    computed = []
    for member in members:
        values = cache.logits(member.checksum, stamp, split, images.size) if cache else None
        if values is None and member.stored:
            values = member.stored(images.ids, images.labels)
        if values is not None:
            check_width(member, values.shape[1], source)
        else:
            values = _run(member, images, source)
            computed.append(member.name)
            if cache:
                cache.write_logits(member.checksum, stamp, split, values)
        logits[member.name] = values
        costs[member.name] = _cost(member, images, cache, timed, say)
        lost = int((~np.isfinite(values)).any(1).sum())
        if lost:
            _log.warning("%s gives NaN or infinity in the logits of %d of %d images", member.name, lost, images.size)
    return MemberLogits(
        logits=logits,
        labels=images.labels,
        ids=images.ids,
        costs=costs,
        class_names=source.class_names,
        checksums={member.name: member.checksum for member in members},
        fingerprint=stamp,
        computed=tuple(computed),
        outputs={m.name: m.decoder.kind or (cache.outputs(m.checksum) if cache else "") for m in members},
    )


def _split(source: Source, split: str) -> Split:
    if split not in source.splits:
        raise UserError(f"{source.name} has no split {split!r}: choose one of {', '.join(source.splits)}")
    if not source.splits[split].size:
        raise UserError(
            f"the split {split!r} of {source.name} has no images to run the members on: choose another split"
        )
    return source.splits[split]


def check_classes(members: Sequence[Member], source: Source) -> None:
    """Raise UserError unless all members with class names have the data's classes, in the data's order.

    A name `class_7` of class 7 agrees with any name.
    """
    for member in members:
        if member.class_names is None:
            continue
        if len(member.class_names) != len(source.class_names):
            raise UserError(_width_error(member, len(member.class_names), source))
        ours, theirs = source.class_names, member.class_names
        odd = [n for n, names in enumerate(zip(ours, theirs, strict=True)) if _names_differ(n, *names)]
        if odd:
            n = odd[0]
            difference = "the classes in another order" if set(ours) == set(theirs) else "other classes"
            raise UserError(
                f"{member.name} has {difference} than {source.name}: class {n} is {theirs[n]!r} in {member.name} and "
                f"{ours[n]!r} in {source.name}; members and data need the same classes in the same order"
            )


def _names_differ(number: int, a: str, b: str) -> bool:
    """Return whether two names of class `number` differ. The placeholder `class_<number>` agrees with any name."""
    return a != b and f"class_{number}" not in (a, b)


def _width_error(member: Member, count: int, source: Source) -> str:
    classes = source.class_names
    message = (
        f"{member.name} has {count} classes and {source.name} has {len(classes)} ({classes[0]!r} to {classes[-1]!r})"
    )
    file = member.class_names is None and not member.stored and member.decoder.settings["background"] == "auto"
    if file and count == len(classes) + 1:
        return f"{message}; if the first is a background class, give {member.source} the option background=first"
    return f"{message}; members and data need the same classes"


def check_width(member: Member, count: int, source: Source) -> None:
    """Raise UserError if `count`, the number of scores that a member gives, is not that of the data's classes."""
    if count != len(source.class_names):
        raise UserError(_width_error(member, count, source))


def _run(member: Member, split: Split, source: Source) -> np.ndarray:
    """Return the logits [N, C] of a member for all images of a split.

    Raises UserError unless C is the number of the data's classes.
    """
    logits = []
    bar = Bar(f"running {member.name}", split.size)
    try:
        for images in ImageBatches(split, member.input_size, member.short_side).batches():
            logits.append(member.run(images))
            check_width(member, logits[-1].shape[1], source)
            bar.advance(len(images), {})
    finally:
        bar.close()
    return np.concatenate(logits)


def _cost(member: Member, split: Split, cache: Cache | None, timed: bool, say: Callable[[str], None]) -> Cost:
    """Return the cost of a member: from the cache, or else counted and written to the cache.

    Calls `say` with a sentence such as "x answers with 10 logits" if the kind of outputs was detected.

    Args:
        split: milliseconds are measured on some of its images.
        timed: measure milliseconds unless they are cached. For a table of logits nothing is measured or cached.
    """
    this_machine = machine()
    cached = cache.cost(member.checksum, this_machine) if cache else None
    cost, description = cached or (member.cost, member.decoder.description)
    untimed = timed and np.isnan(cost.milliseconds) and not member.stored
    if untimed:
        some = np.linspace(0, split.size - 1, min(_TIMED, split.size)).round().astype(int)
        images = ImageBatches(split, member.input_size, member.short_side).take(some)
        cost = dataclasses.replace(cost, milliseconds=measure_milliseconds(member, images))
        description = description or member.decoder.description
    if description:
        say(description)
    if cache and (untimed or cached is None) and not member.stored:
        outputs = member.decoder.kind or cache.outputs(member.checksum)
        cache.write_cost(member.checksum, cost, this_machine, description, outputs)
    return cost


def machine() -> str:
    """Return name, architecture and number of cores of this machine: cached times hold for it alone."""
    return f"{platform.node()} {platform.machine()}, {image_decoding.cores()} cores"


def measure_milliseconds(member: Member, images: np.ndarray) -> float:
    """Return the mean time, in milliseconds, of running the member on one image, after a warm-up.

    Args:
        images: uint8 [N, side, side, 3] of the member's size, which are run one by one, several times if they are few.
    """
    for n in range(_WARM):
        member.run(images[n % len(images)][None])
    seconds: list[float] = []
    begun = time.perf_counter()
    for n in itertools.count():
        if n >= _LEAST and (n >= _MOST or time.perf_counter() - begun > _SECONDS):
            break
        start = time.perf_counter()
        member.run(images[n % len(images)][None])
        seconds.append(time.perf_counter() - start)
    return 1000 * statistics.fmean(seconds)
