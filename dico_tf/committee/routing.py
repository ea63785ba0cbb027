"""A committee that really stops early: a member sees only the images that those before it were unsure of.

Undecided images are gathered, filled up to one of few batch sizes, run, and their answers put back in their places. The
answers are those that `decide` finds where all members' logits are known, bit for bit if members do not mind in what
batch an image comes.
"""

import collections
import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from dico_tf.committee.confidence import confidence
from dico_tf.committee.decision import Committee, Decision, joined, passes
from dico_tf.errors import UserError

BUCKETS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)  # images of a call: few sizes, and at most a third of one is filled up
OPEN = 64  # batches of a stream that may wait for their slowest image

Member = Callable[[np.ndarray], np.ndarray]  # images [B, ...] -> logits [B, C], where B is a bucket


def routed(
    committee: Committee, members: Sequence[Member], images: np.ndarray, buckets: Sequence[int] = BUCKETS,
    classes: int = 1,
) -> Decision:  # fmt: skip
    """Of images [N, ...], or of what stands for each in an array; a member is not called on nothing.

    `classes`: of the answer to no image at all, for which nobody is asked.
    """
    return next(refilled(committee, members, [images], buckets, classes=classes))


def refilled(
    committee: Committee, members: Sequence[Member], batches: Iterable[np.ndarray],
    buckets: Sequence[int] = BUCKETS, open_batches: int = OPEN, classes: int = 1,
) -> Iterator[Decision]:  # fmt: skip
    """Of each batch of a stream, in the stream's order; batches may have any size, also none.

    The undecided of several batches wait until they fill the largest bucket of the next member. When more than
    `open_batches` are open everything that waits is run, so that memory holds no more answers than theirs, and of
    images a bucket for each member beside the batch that came last.
    """
    _check(committee, members, buckets, open_batches)
    queues: list[_Waiting | None] = [None] * len(members)
    opened: collections.deque[_Answers] = collections.deque()
    rows = 0
    for batch in itertools.chain(batches, [None]):
        if batch is not None:
            batch = np.asarray(batch)
            opened.append(_Answers(rows, len(batch), len(members)))
            queues[0] = _together(queues[0], _Waiting(np.arange(rows, rows + len(batch)), batch))
            rows += len(batch)
        all = batch is None or len(opened) > open_batches
        for k, member in enumerate(members):
            taken, queues[k] = _due(queues[k], max(buckets), all)
            if taken is None:
                continue
            step = _step(committee, k, taken, _called(member, committee.members[k], taken.images, buckets))
            for answers in opened:
                answers.take(k, step)
            if k + 1 < len(members):
                queues[k + 1] = _together(queues[k + 1], step.going)
        while opened and not opened[0].missing:
            yield opened.popleft().decision(classes)


@dataclasses.dataclass(frozen=True, eq=False)
class _Waiting:
    """Images for the next member, in the order they came."""

    rows: np.ndarray  # int64 [M], number of each in the whole stream; rising
    images: np.ndarray  # [M, ...]
    answer: np.ndarray | None = None  # float64 [M, C] of the members so far
    apart: np.ndarray | None = None  # [M, k, C], logits of each of them

    def where(self, which: np.ndarray | slice) -> "_Waiting":
        return _Waiting(*(None if part is None else part[which] for part in self._parts()))

    def _parts(self) -> tuple[np.ndarray | None, ...]:
        return self.rows, self.images, self.answer, self.apart


def _together(first: _Waiting | None, second: _Waiting) -> _Waiting | None:
    if not len(second.rows):
        return first
    if first is None:
        return second
    pairs = zip(first._parts(), second._parts(), strict=True)
    return _Waiting(*(None if a is None else np.concatenate([a, b]) for a, b in pairs))


def _due(queue: _Waiting | None, size: int, all: bool) -> tuple[_Waiting | None, _Waiting | None]:
    """(those that run now: full buckets, or all of them; those that wait on)."""
    if queue is None:
        return None, None
    count = len(queue.rows)
    count -= 0 if all else count % size
    now, later = queue.where(slice(count)), queue.where(slice(count, None))
    return now if count else None, later if len(later.rows) else None


def _called(member: Member, name: str, images: np.ndarray, buckets: Sequence[int]) -> np.ndarray:
    """Logits [M, C] of images [M, ...], M > 0, in calls of the buckets' sizes; what fills them up is dropped."""
    found, size = [], max(buckets)
    for start in range(0, len(images), size):
        part = images[start : start + size]
        bucket = min(b for b in buckets if b >= len(part))
        filled = np.concatenate([part, np.repeat(part[-1:], bucket - len(part), 0)]) if bucket > len(part) else part
        logits = np.asarray(member(filled))
        if logits.dtype.kind != "f" or logits.ndim != 2 or len(logits) != bucket:
            raise UserError(f"{name} answers {bucket} images with {logits.dtype} {list(logits.shape)}, not floats "
                            f"[{bucket}, C]")  # fmt: skip
        found.append(logits[: len(part)])
    return np.concatenate(found)


@dataclasses.dataclass(frozen=True, eq=False)
class _Step:
    """What came of asking one member."""

    rows: np.ndarray  # [M]
    answer: np.ndarray  # [M, C]
    confidence: np.ndarray  # float32 [M]
    stopped: np.ndarray  # bool [M]
    going: _Waiting  # those that did not stop


def _step(committee: Committee, k: int, waiting: _Waiting, logits: np.ndarray) -> _Step:
    apart = logits[:, None] if waiting.apart is None else np.concatenate([waiting.apart, logits[:, None]], 1)
    answer = joined(committee, waiting.answer, range(k + 1), apart)
    sure = confidence(committee.confidence, answer, apart)
    last = k + 1 == len(committee.members)
    stopped = np.ones(len(sure), bool) if last else passes(sure, committee.gates[k])
    going = _Waiting(waiting.rows, waiting.images, answer, apart).where(~stopped)
    return _Step(waiting.rows, answer, sure, stopped, going)


class _Answers:
    """Of one batch, as they come in."""

    def __init__(self, first: int, count: int, members: int):
        self._first, self.missing = first, count
        self._stage = np.zeros(count, np.int64)
        self._confidence = np.full((count, members), np.nan, np.float32)
        self._logits: np.ndarray | None = None

    def take(self, k: int, step: _Step) -> None:
        ends = np.searchsorted(step.rows, [self._first, self._first + len(self._stage)])
        ours = slice(*ends)
        rows, stopped = step.rows[ours] - self._first, step.stopped[ours]
        self._confidence[rows, k] = step.confidence[ours]
        done = rows[stopped]
        if not len(done):
            return
        if self._logits is None:
            self._logits = np.empty((len(self._stage), step.answer.shape[1]))
        self._logits[done], self._stage[done] = step.answer[ours][stopped], k
        self.missing -= len(done)

    def decision(self, classes: int) -> Decision:
        logits = np.zeros((0, classes)) if self._logits is None else self._logits
        return Decision(logits, self._stage, self._confidence, ~np.isfinite(logits).all(-1))


def _check(committee: Committee, members: Sequence[Member], buckets: Sequence[int], open_batches: int) -> None:
    if len(members) != len(committee.members):
        raise UserError(f"{len(members)} networks were given for the members {', '.join(committee.members)}: one each")
    if not buckets or min(buckets) < 1 or any(int(size) != size for size in buckets):
        raise UserError(
            f"buckets are {', '.join(map(str, buckets)) or 'none'}: give sizes of batches, such as 1, 8, 32"
        )
    if open_batches < 1:
        raise UserError(f"open_batches is {open_batches}: at least 1 batch must be open")
