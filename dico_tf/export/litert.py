"""Runs exported LiteRT files and measures their time."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from dico_tf.export.formats.format import TimedLogits
from dico_tf.runtime.litert import LiteRT

_WARM = 3  # calls before the first that is timed


def run(path: Path, images: np.ndarray, advance: Callable[[int], None] = lambda count: None) -> TimedLogits:
    """Return the logits [N, C] of uint8 images [N, H, W, 3] and the median milliseconds per image, with one thread.

    The last batch is padded if the file has a fixed batch size; a file for any batch size gets one image per call.
    `advance` is called with the number of images done since its last call.
    """
    model = LiteRT(path, threads=1)
    call, batch = model.signature(), max(model.batch, 1)
    outputs, seconds = [], []
    for start in range(0, len(images), batch):
        part = images[start : start + batch].astype(np.float32)
        padded = np.pad(part, ((0, batch - len(part)), (0, 0), (0, 0), (0, 0)))
        for _ in range(_WARM if not outputs else 1):
            begun = time.perf_counter()
            logits = call(image=padded)["logits"]
            seconds.append(time.perf_counter() - begun)
        outputs.append(logits[: len(part)])
        advance(len(part))
    return TimedLogits(np.concatenate(outputs), 1000 * float(np.median(seconds[_WARM - 1 :])) / batch)


def signature(path: Path) -> dict[str, list[str]]:
    """Return the sorted names of a LiteRT file's tensors: {"inputs": names, "outputs": names}."""
    call = LiteRT(path, threads=1).signature()
    return {"inputs": sorted(call.inputs), "outputs": sorted(call.outputs)}
