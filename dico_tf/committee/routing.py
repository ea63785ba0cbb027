"""Cascades that really stop early: a member runs only on the images about which those before it were unsure.

Undecided images are collected, filled up to one of a few batch sizes and run, and their answers are put back in order.
The answers equal those of `decide`, bit for bit if a member's answer does not depend on the batch around an image.
"""

import collections
import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from dico_tf.committee.decision import Committee, Decision, confidence, joined, passes
from dico_tf.errors import UserError

BUCKETS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)  # batch sizes of a call: at most a third of one is padding
OPEN = 64  # batches of a stream that may wait for their slowest image

Classifier = Callable[[np.ndarray], np.ndarray]  # images [B, ...] -> logits [B, C], where B is a bucket


def routed(
    committee: Committee,
    members: Sequence[Classifier],
    images: np.ndarray,
    buckets: Sequence[int] = BUCKETS,
    classes: int = 1,
) -> Decision:
    """Return the committee's decision on images; a member runs only on those that passed no gate before it.

    Args:
        members: a function for each member of the committee, in its order; never called on an empty batch.
        images: [N, ...], or whatever else the members take, such as row numbers.
        buckets: batch sizes with which members are called; smaller batches are filled up with their last image.
        classes: width C of the answer if there are no images.
    """
    return next(refilled(committee, members, [images], buckets, classes=classes))


def refilled(
    committee: Committee,
    members: Sequence[Classifier],
    batches: Iterable[np.ndarray],
    buckets: Sequence[int] = BUCKETS,
    open_batches: int = OPEN,
    classes: int = 1,
) -> Iterator[Decision]:
    """Yield the decision on each batch of a stream, in order; a batch may have any size, also 0.

    Images of several batches wait before each member, also the first, until they fill the largest bucket. If more than
    `open_batches` batches are waiting, all of their images run without further waiting. This bounds memory to the
    answers of `open_batches` + 1 batches, the images of the last batch, and one bucket of images for each member.

    The other arguments are those of `routed`.
    """
    _check(committee, members, buckets, open_batches)
    queues: list[_Waiting | None] = [None] * len(members)
    waiting: collections.deque[_Answers] = collections.deque()
    rows = 0
    for batch in itertools.chain(batches, [None]):
        if batch is not None:
            batch = np.asarray(batch)
            waiting.append(_Answers(rows, len(batch), len(members)))
            queues[0] = _together(queues[0], _Waiting(np.arange(rows, rows + len(batch)), batch))
            rows += len(batch)
        all = batch is None or len(waiting) > open_batches
        for k, member in enumerate(members):
            taken, queues[k] = _due(queues[k], max(buckets), all)
            if taken is None:
                continue
            step = _step(committee, k, taken, _called(member, committee.members[k], taken.images, buckets))
            for answers in waiting:
                answers.take(k, step)
            if k + 1 < len(members):
                queues[k + 1] = _together(queues[k + 1], step.going)
        while waiting and not waiting[0].missing:
            yield waiting.popleft().decision(classes)


@dataclasses.dataclass(frozen=True, eq=False)
class _Waiting:
    """Images that wait for the next member, in their order."""

    rows: np.ndarray  # int64 [M], index of each in the whole stream; rising
    images: np.ndarray  # [M, ...]
    answer: np.ndarray | None = None  # float64 [M, C] of the members so far
    apart: np.ndarray | None = None  # [M, k, C], logits of each of these members

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
    """Split a queue into (images that run now, images that wait on); None = no images.

    All images run if `all`, else the largest multiple of `size`.
    """
    if queue is None:
        return None, None
    count = len(queue.rows)
    count -= 0 if all else count % size
    now, later = queue.where(slice(count)), queue.where(slice(count, None))
    return now if count else None, later if len(later.rows) else None


def _called(member: Classifier, name: str, images: np.ndarray, buckets: Sequence[int]) -> np.ndarray:
    """Return logits [M, C] of images [M, ...], M > 0, from calls with batches of the buckets' sizes."""
    parts, size = [], max(buckets)
    for start in range(0, len(images), size):
        part = images[start : start + size]
        bucket = min(b for b in buckets if b >= len(part))
        filled = np.concatenate([part, np.repeat(part[-1:], bucket - len(part), 0)]) if bucket > len(part) else part
        logits = np.asarray(member(filled))
        if logits.dtype.kind != "f" or logits.ndim != 2 or len(logits) != bucket:
            raise UserError(
                f"{name} must answer {bucket} images with floats [{bucket}, C], got {logits.dtype} {list(logits.shape)}"
            )
        parts.append(logits[: len(part)])
    return np.concatenate(parts)


@dataclasses.dataclass(frozen=True, eq=False)
class _Step:
    """Results of one member on the images that came to it."""

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
    """Answers to one batch, filled in as they come."""

    def __init__(self, first: int, count: int, members: int):
        self._first, self.missing = first, count
        self._stage = np.zeros(count, np.int64)
        self._confidence = np.full((count, members), np.nan, np.float32)
        self._logits: np.ndarray | None = None

    def take(self, k: int, step: _Step) -> None:
        """Store the confidences of member k for images of this batch, and the answers that are final."""
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


def _check(committee: Committee, members: Sequence[Classifier], buckets: Sequence[int], open_batches: int) -> None:
    if len(members) != len(committee.members):
        raise UserError(f"expected a network for each of {', '.join(committee.members)}, got {len(members)}")
    if not buckets or min(buckets) < 1 or any(int(size) != size for size in buckets):
        raise UserError(
            f"buckets must be integers of at least 1, such as 1, 8, 32, got {', '.join(map(str, buckets)) or 'none'}"
        )
    if open_batches < 1:
        raise UserError(f"open_batches must be at least 1, got {open_batches}")
