"""How long one image takes on this machine."""

import itertools
import platform
import statistics
import time

import numpy as np

from dico_tf.data import image_decoding
from dico_tf.evaluation.members.member import Member

_WARM, _LEAST, _MOST = 5, 20, 200  # calls: before the first that counts, and those that count
_SECONDS = 2.0  # within which the more are made, the quicker the network


def machine() -> str:
    """What a measured time holds for."""
    return f"{platform.node()} {platform.machine()}, {image_decoding.cores()} cores"


def milliseconds(member: Member, images: np.ndarray) -> float:
    """Measure the mean time from an image of the member's size to its logits, one image after another."""
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
