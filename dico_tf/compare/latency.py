"""Milliseconds of one image in the networks of several runs: python -m dico_tf.compare.latency RUN RUN ...

Prints them as one line of JSON. A process of its own, so that `compare` need not import TensorFlow.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dico_tf import startup

WARM_UP, LEAST, MOST, SECONDS = 5, 20, 200, 5.0  # turns: untimed, fewest, most; and time for those beyond the fewest


def interleaved(calls: Mapping[str, Callable[[], Any]]) -> dict[str, float]:
    """Return the median milliseconds of each call; they take turns, so that a disturbance affects all of them."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(WARM_UP):
        for call in calls.values():
            call()
    begun = time.perf_counter()
    for turn in range(MOST):
        if turn >= LEAST and time.perf_counter() - begun > SECONDS:
            break
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def _answering(folder: str) -> Callable[[], Any]:
    """Return a function that runs the ensemble of a run on one random image, or clip, as a graph of TensorFlow."""
    import keras
    import numpy as np
    import tensorflow as tf

    from dico_tf.formulas.averages import AVERAGES
    from dico_tf.training.build import trained_run

    run = trained_run(folder)
    model, rule = run.network(), AVERAGES[run.config.cotraining.average]
    clip = (run.data["frames"],) if run.data.get("frames") else ()
    side = run.data["image_size"]
    image = tf.constant(np.random.default_rng(0).uniform(0, 255, (1, *clip, side, side, 3)), tf.float32)

    @tf.function(autograph=False)
    def answer(image):
        return rule.combine(keras.ops, rule.values(keras.ops, model(image, training=False)))

    return lambda: answer(image).numpy()


def main(folders: Sequence[str]) -> None:
    startup.tensorflow()
    sys.stdout.write(json.dumps(interleaved({folder: _answering(folder) for folder in folders})) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
