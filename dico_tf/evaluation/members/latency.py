"""How long one image takes on this machine."""

import itertools
import platform
import time

import numpy as np

from dico_tf.data import pictures
from dico_tf.evaluation.members.member import Member

_WARM, _LEAST, _MOST = 5, 20, 200  # calls: before the first that counts, and those that count
_SECONDS = 2.0  # within which the more are made, the quicker the network


def machine() -> str:
    """What a measured time holds for."""
    return f"{platform.node()} {platform.machine()}, {pictures.cores()} cores"


def measure(member: Member, images: np.ndarray) -> dict[str, float]:
    """Mean and percentiles of milliseconds from a picture of its size to its logits, one picture after another."""
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
    found = 1000 * np.asarray(seconds)
    p50, p95, p99 = (float(np.percentile(found, p)) for p in (50, 95, 99))
    return {"milliseconds": float(found.mean()), "p50": p50, "p95": p95, "p99": p99}
