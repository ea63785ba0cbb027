"""A committee at work on scenes: later members really see windows of the unsure cells only."""

import dataclasses
import sys
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from tqdm import tqdm

from dico_tf.committee.dense.grid import routed_dense
from dico_tf.committee.dense.search import Point
from dico_tf.evaluation.segmentation import confusion

_BATCH = 8  # scenes read at once
_TIMED = 40  # scenes, once more after all shapes of windows are known


@dataclasses.dataclass(frozen=True, eq=False)
class Worked:
    counts: np.ndarray  # int64 [N, C, C]
    seen: np.ndarray  # [n], share of an image that each member was shown, on average
    milliseconds: float  # of an image
    alone: list[float]  # milliseconds of a whole image by each member

    @property
    def predicted(self) -> float:
        """Milliseconds of an image by what members saw of it and their times alone."""
        return float(self.seen @ np.asarray(self.alone))


def framed(split, title: str, most: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pictures and masks, some at a time."""
    size = min(split.size, most or split.size)
    pause = 0.5 if sys.stderr.isatty() else 30.0  # a log file wants few lines
    with tqdm(total=size, desc=title, leave=False, delay=1, mininterval=pause) as bar:
        for first in range(0, size, _BATCH):
            positions = np.arange(first, min(first + _BATCH, size))
            yield split.framed(positions)
            bar.update(len(positions))


def at_work(point: Point, members: Sequence, split) -> Worked:
    answers = [member.answer for member in members]

    def route(image: np.ndarray):
        return routed_dense(point.committee, answers, image, point.grid)

    counts, seen = [], []
    for images, masks in framed(split, "routing"):
        for image, mask in zip(images, masks, strict=True):
            decision = route(image)
            counts.append(confusion(decision.logits.argmax(-1), mask, decision.logits.shape[-1]))
            seen.append(decision.seen)
    few = [image for images, _ in framed(split, "timing", _TIMED) for image in images]
    alone = [_milliseconds(lambda image, ask=ask: ask(image[None]), few) for ask in answers]
    few_seen = np.mean(seen[: len(few)], 0)
    return Worked(np.stack(counts), few_seen, _milliseconds(route, few), alone)


def _milliseconds(act: Callable[[np.ndarray], object], images: Sequence[np.ndarray]) -> float:
    act(images[0])
    begun = time.perf_counter()
    for image in images:
        act(image)
    return 1000 * (time.perf_counter() - begun) / len(images)
