"""A cascade of segmentation networks run for real: later members see windows of the unsure cells only."""

import dataclasses
import sys
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from tqdm import tqdm

from dico_tf.committee.dense.grid import routed_dense
from dico_tf.committee.search import Point
from dico_tf.evaluation.segmentation import confusion

_BATCH = 8  # images read at once
_TIMED = 40  # images that are timed, after all shapes of windows have been seen once


@dataclasses.dataclass(frozen=True, eq=False)
class MeasuredRouting:
    """Answers and times of a cascade on real images."""

    counts: np.ndarray  # int64 [N, C, C], confusion of each image
    seen: np.ndarray  # [n], average share of a timed image that each member saw
    milliseconds: float  # average time of an image
    alone: list[float]  # milliseconds of a whole image by each member

    @property
    def predicted(self) -> float:
        """Predicted milliseconds of an image: each member's time for a whole image times the share it saw, summed."""
        return float(self.seen @ np.asarray(self.alone))


def framed(split, title: str, most: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield batches of (images, masks) of a split, with a progress bar; the first `most` images, 0 = all."""
    size = min(split.size, most or split.size)
    pause = 0.5 if sys.stderr.isatty() else 30.0  # a log file wants few lines
    with tqdm(total=size, desc=title, leave=False, delay=1, mininterval=pause) as bar:
        for first in range(0, size, _BATCH):
            positions = np.arange(first, min(first + _BATCH, size))
            yield split.framed(positions)
            bar.update(len(positions))


def measure_routing(point: Point, members: Sequence, split) -> MeasuredRouting:
    """Run a committee over all images of a split, then time it and each of its members on the first 40.

    members: those of the committee, in its order.
    """
    networks = [member.answer for member in members]

    def route(image: np.ndarray):
        return routed_dense(point.committee, networks, image, point.grid)

    counts, seen = [], []
    for images, masks in framed(split, "routing"):
        for image, mask in zip(images, masks, strict=True):
            decision = route(image)
            counts.append(confusion(decision.logits.argmax(-1), mask, decision.logits.shape[-1]))
            seen.append(decision.seen)
    timed = [image for images, _ in framed(split, "timing", _TIMED) for image in images]
    alone = [_milliseconds(lambda image, network=network: network(image[None]), timed) for network in networks]
    return MeasuredRouting(np.stack(counts), np.mean(seen[: len(timed)], 0), _milliseconds(route, timed), alone)


def _milliseconds(act: Callable[[np.ndarray], object], images: Sequence[np.ndarray]) -> float:
    act(images[0])
    begun = time.perf_counter()
    for image in images:
        act(image)
    return 1000 * (time.perf_counter() - begun) / len(images)
