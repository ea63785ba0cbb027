"""Training speed of a network with few channels, compared with plain Keras layers and TensorFlow's own threads.

python -m benchmarks.narrow
Times one training step of resnet_110 in four branches at batch 64. "before" uses Keras' Conv2D for 1x1 convolutions and
TensorFlow's own choice of threads; "now" is as train.py runs. Each runs in its own process, in turns.
"""

import dataclasses
import json
import statistics
import subprocess
import sys
import time

from dico_tf import flags, startup
from dico_tf.config import option

BAR = 1.3  # times as fast


@dataclasses.dataclass(frozen=True, kw_only=True)
class Narrow:
    model: str = option("resnet_110", "preset of the whole network")
    splits: int = option(4, "number of branches")
    batch_size: int = option(64, "images per step")
    repeats: int = option(5, "processes of each kind")
    kind: str = option("", "kind that this process measures; empty = start processes for both", ("", "before", "now"))


SCRIPT = flags.Script(name="-m benchmarks.narrow", about=__doc__, fields=flags.of(Narrow))


def _seconds(settings: Narrow) -> float:
    """Return the median seconds of seven steps in this process."""
    import keras
    import numpy as np
    import tensorflow as tf

    from dico_tf.cotrain import DiCo
    from dico_tf.layers.convolution import Pointwise
    from dico_tf.training.strategy import share_threads

    if settings.kind == "now":
        share_threads(settings.splits)
    else:
        Pointwise.call = lambda layer, inputs, training=False: keras.layers.Conv2D.call(layer, inputs)
    model = DiCo(settings.model, settings.splits, classes=10, views=["none"])
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9))
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (settings.batch_size, 32, 32, 3)).astype(np.uint8)
    batch = {"image": tf.constant(images), "label": tf.constant(draw.integers(0, 10, settings.batch_size))}
    batch["index"] = tf.range(settings.batch_size, dtype=tf.int64)
    step = tf.function(model.train_step, autograph=False)
    times = []
    for _ in range(9):
        start = time.perf_counter()
        float(step(batch)["loss"])
        times.append(time.perf_counter() - start)
    return statistics.median(times[2:])


def _seconds_in_process(settings: Narrow, kind: str) -> float:
    """Return `_seconds` measured in a new process, because a process chooses its threads only once."""
    words = [f"--{name}={value}" for name, value in {**dataclasses.asdict(settings), "kind": kind}.items()]
    command = [sys.executable, "-m", "benchmarks.narrow", *words]
    return float(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def main(arguments: list[str]) -> None:
    values, _ = flags.parse(SCRIPT, arguments)
    settings = Narrow(**values)
    startup.tensorflow()
    if settings.kind:
        sys.stdout.write(json.dumps(_seconds(settings)))
        return
    from benchmarks import measure

    seconds: dict[str, list[float]] = {"before": [], "now": []}
    for _ in range(settings.repeats):
        for kind, times in seconds.items():
            times.append(_seconds_in_process(settings, kind))
    before, now = (statistics.median(times) for times in seconds.values())
    about = {"model": settings.model, "splits": settings.splits, "batch_size": settings.batch_size}
    measure.emit("narrow step", before / now, "times as fast", BAR, before=round(before, 3), now=round(now, 3), **about)


if __name__ == "__main__":
    flags.run(main)
