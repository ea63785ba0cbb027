"""How much faster a network of few channels trains than by plain Keras layers and TensorFlow's own threads.

python -m benchmarks.narrow
One training step of resnet_110 in four branches, batch 64. Before: 1x1 convolutions by Keras' Conv2D, TensorFlow's own
choice of threads. Now: as train.py runs. Each in a process of its own, by turns.
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
    repeats: int = option(5, "processes of either kind")
    kind: str = option("", "what a process of this benchmark measures", ("", "before", "now"))


SCRIPT = flags.Script(name="-m benchmarks.narrow", about=__doc__, fields=flags.of(Narrow))


def _seconds(asked: Narrow) -> float:
    """The median of seven steps, in this process."""
    import keras
    import numpy as np
    import tensorflow as tf

    from dico_tf.cotrain import DiCo
    from dico_tf.layers.convolution import Pointwise
    from dico_tf.training.strategy import share_threads

    if asked.kind == "now":
        share_threads(asked.splits)
    else:
        Pointwise.call = lambda layer, inputs, training=False: keras.layers.Conv2D.call(layer, inputs)
    model = DiCo(asked.model, asked.splits, classes=10, views=["none"])
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9))
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (asked.batch_size, 32, 32, 3)).astype(np.uint8)
    batch = {"image": tf.constant(images), "label": tf.constant(draw.integers(0, 10, asked.batch_size))}
    batch["index"] = tf.range(asked.batch_size, dtype=tf.int64)
    step = tf.function(model.train_step, autograph=False)
    times = []
    for _ in range(9):
        start = time.perf_counter()
        float(step(batch)["loss"])
        times.append(time.perf_counter() - start)
    return statistics.median(times[2:])


def _ask(asked: Narrow, kind: str) -> float:
    """The same in a process of its own, since threads are chosen once."""
    words = [f"--{name}={value}" for name, value in {**dataclasses.asdict(asked), "kind": kind}.items()]
    command = [sys.executable, "-m", "benchmarks.narrow", *words]
    return float(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def main(arguments: list[str]) -> None:
    values, _ = flags.parse(SCRIPT, arguments)
    asked = Narrow(**values)
    startup.tensorflow()
    if asked.kind:
        sys.stdout.write(json.dumps(_seconds(asked)))
        return
    from benchmarks import measure

    seconds: dict[str, list[float]] = {"before": [], "now": []}
    for _ in range(asked.repeats):
        for kind, found in seconds.items():
            found.append(_ask(asked, kind))
    before, now = (statistics.median(found) for found in seconds.values())
    about = {"model": asked.model, "splits": asked.splits, "batch_size": asked.batch_size}
    measure.emit("narrow step", before / now, "times as fast", BAR, before=round(before, 3), now=round(now, 3), **about)


if __name__ == "__main__":
    flags.run(main)
