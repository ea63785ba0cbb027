"""LiteRT files, run by LiteRT itself and compared with what the network said."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dico_tf.evaluation import metrics
from dico_tf.export.formats.format import TimedLogits
from dico_tf.runtime.litert import LiteRT

_WARM = 3  # calls before the first that is timed


def run(path: Path, images: np.ndarray, advance: Callable[[int], None] = lambda count: None) -> TimedLogits:
    """Logits of uint8 images [N, H, W, 3], by one thread; the last batch is filled up where batches have one size."""
    model = LiteRT(path, threads=1)
    call, batch = model.signature(), max(model.batch, 1)
    found, seconds = [], []
    for start in range(0, len(images), batch):
        part = images[start : start + batch].astype(np.float32)
        filled = np.pad(part, ((0, batch - len(part)), (0, 0), (0, 0), (0, 0)))
        for _ in range(_WARM if not found else 1):
            begun = time.perf_counter()
            logits = call(image=filled)["logits"]
            seconds.append(time.perf_counter() - begun)
        found.append(logits[: len(part)])
        advance(len(part))
    return TimedLogits(np.concatenate(found), 1000 * float(np.median(seconds[_WARM - 1 :])) / batch)


def signature(path: Path) -> dict[str, list[str]]:
    """Names of what goes in and comes out."""
    found = LiteRT(path, threads=1).signature()
    return {"inputs": sorted(found.inputs), "outputs": sorted(found.outputs)}


def compared(found: np.ndarray, expected: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """top1, nll and ece of logits [N, C], and how far they are from the network's; endlessly where one is no number."""
    if not np.isfinite(found).all():
        return {"top1": 0.0, "nll": np.inf, "ece": 1.0, "largest_difference": np.inf, "same_class": 0.0}
    return {
        **scores(found, labels),
        "largest_difference": float(abs(found - expected).max()),
        "same_class": float((found.argmax(1) == expected.argmax(1)).mean()),
    }


def scores(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    whole = metrics.scores(logits, labels)
    return {name: whole[name] for name in ("top1", "nll", "ece")}
