"""SavedModels for TensorFlow Serving, Keras and the C API. Other formats are converted from them."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dico_tf.export.formats.format import Advance, Format, Job, TimedLogits
from dico_tf.files.manifest import SAVED_MODEL

_BATCH = 64


class SavedModel(Format):
    """A SavedModel with all signatures of a member."""

    name = SAVED_MODEL
    title = "SavedModel"
    kinds = (SAVED_MODEL,)
    suffix = ""
    exact = (SAVED_MODEL,)
    tolerance = 1e-4
    optional = False

    def write(self, jobs: Sequence[Job], batch: int, calibration: Path | None) -> dict[Path, str]:
        from dico_tf.export import saved_model

        for job in jobs:
            saved_model.write(job.member, job.files[SAVED_MODEL])
        return {}

    def open(self, path: Path) -> Callable[[np.ndarray, Advance], TimedLogits]:
        import tensorflow as tf

        loaded = tf.saved_model.load(str(path))
        call = loaded.signatures["serving_default"]

        def answer(images: np.ndarray, advance: Advance) -> TimedLogits:
            logits, seconds = [], []
            for start in range(0, len(images), _BATCH):
                part = tf.constant(images[start : start + _BATCH], tf.float32)
                begun = time.perf_counter()
                logits.append(call(image=part)["logits"].numpy())
                seconds.append((time.perf_counter() - begun) / len(part))
                advance(len(part))
            _ = loaded  # keeps its variables alive
            return TimedLogits(np.concatenate(logits), 1000 * float(np.median(seconds)))

        return answer

    def describe(self, path: Path) -> dict[str, Any]:
        return {}

    def check(self, path: Path, images: np.ndarray, expected: np.ndarray) -> dict[str, float]:
        return {"largest_difference": super().check(path, images, expected)["largest_difference"]}


FORMAT = SavedModel()
