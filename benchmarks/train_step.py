"""Images per second of a training step, as a share of the convolution peak of the same process.

python -m benchmarks.train_step --model=wrn_16_8 --splits=1,2,4 --batch_size=64 [--precision=mixed_bfloat16]
A step counts three forward passes of two operations per multiply-add. The peak is the best of 3x3 convolutions with
256 and 512 channels on 16x16 and 32x32 maps, timed between the steps. Threads are shared as
train.py shares them, so each number of branches is measured in a process of its own; where each operation has one
thread, the peak is that of a convolution on every core.
"""

import dataclasses
import statistics
import subprocess
import sys
import time

import numpy as np

from dico_tf import flags, startup
from dico_tf.config import option
from dico_tf.errors import UserError

BARS = {"float32": {1: 0.72, 2: 0.72, 4: 0.72}, "mixed_bfloat16": {1: 0.48, 2: 0.58, 4: 0.55}}
VIEWS = "crop+flip+cutout"
MOST_LOST = 0.07  # to views, mixing, metrics and the input pipeline


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measurement:
    model: str = option("wrn_16_8", "preset of the whole")
    splits: tuple[int, ...] = option((1, 2, 4), "numbers of branches")
    batch_size: int = option(64, "images per step")
    precision: str = option("float32", "numbers the network computes with", ("float32", "mixed_bfloat16"))
    repeats: int = option(5, "interleaved repeats")
    steps: int = option(3, "steps in each repeat")


SCRIPT = flags.Script(name="-m benchmarks.train_step", about=__doc__, fields=flags.of(Measurement))


def peak_functions(precision: str, lanes: int = 1) -> list:
    """Return (call, operations) of convolutions, `lanes` at once in each call."""
    import tensorflow as tf

    kind = tf.bfloat16 if precision == "mixed_bfloat16" else tf.float32

    @tf.function(reduce_retracing=True)
    def convolve(x, k):
        """One number out of each lane, so that waiting for it copies nothing; images are shared out to the lanes."""
        maps = [tf.nn.conv2d(part, k, 1, "SAME") for part in tf.split(x, lanes)]
        return tf.add_n([tf.reduce_sum(tf.cast(each[:, 0, 0, 0], tf.float32)) for each in maps])

    found = []
    for channels in (256, 512):
        for size in (16, 32):
            images = 64 // lanes * lanes
            x = tf.cast(tf.random.normal([images, size, size, channels]), kind)
            kernel = tf.cast(tf.random.normal([3, 3, channels, channels]), kind)
            operations = 2 * images * size * size * 9 * channels * channels
            found.append((lambda x=x, kernel=kernel: convolve(x, kernel).numpy(), operations))
    return found


def bare_step(model, optimizer):
    """Forward, cross-entropies, backward, update: nothing of views, mixing or metrics."""
    import tensorflow as tf

    @tf.function(autograph=False)
    def step(images, labels):
        with tf.GradientTape() as tape:
            logits = model(images, training=True)
            each = tf.repeat(labels[:, None], model.splits, axis=1)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(each, logits)
            total = tf.reduce_mean(tf.reduce_sum(losses, axis=1))
        optimizer.apply(tape.gradient(total, model.branch_variables), model.branch_variables)
        return total

    return step


def full_step(model):
    import tensorflow as tf

    return tf.function(model.train_step, autograph=False)


def subjects(asked: Measurement, splits: int) -> dict:
    """{name: call} of a bare step and of one with views, mixup, metrics and the input pipeline."""
    import keras
    import tensorflow as tf

    from dico_tf.cotrain import DiCo
    from dico_tf.data.pipeline import training_batches
    from dico_tf.data.source import Split
    from dico_tf.training.optimizers import SGD

    keras.utils.set_random_seed(0)
    model = DiCo(asked.model, splits, classes=10, views=(VIEWS,), mixup=0.2, weight_decay=1e-4, dtype=asked.precision)
    model.compile(SGD(1e-3, momentum=0.9, nesterov=True))
    model.optimizer.build(model.branch_variables)
    size, batch = 20_000, asked.batch_size
    draw = np.random.default_rng(0)
    split = Split(
        images=draw.integers(0, 256, (size, 32, 32, 3), np.uint8),
        labels=draw.integers(0, 10, size),
        ids=np.arange(size).astype(str),
    )
    count = size // batch
    indices = np.tile(draw.permutation(size)[: count * batch].reshape(count, 1, batch), (100, 1, 1))
    feed = iter(training_batches(split, indices))
    bare, full = bare_step(model, model.optimizer), full_step(model)
    images = tf.constant(split.images[:batch], tf.float32)
    labels = tf.constant(split.labels[:batch])
    return {"bare": lambda: bare(images, labels).numpy(), "full": lambda: full(next(feed))["loss"].numpy()}


def timed(call, times: int) -> float:
    started = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - started) / times


def measure(asked: Measurement, splits: int) -> dict:
    """Medians over repeats in which peak, bare and full steps take turns."""
    from dico_tf.data.image_decoding import cores
    from dico_tf.training.strategy import share_threads

    lanes = cores() if share_threads(splits) else 1
    calls, peaks = subjects(asked, splits), peak_functions(asked.precision, lanes)
    for call in [*calls.values(), *calls.values(), *(p for p, _ in peaks)]:
        call()
    found = {"bare": [], "full": [], "peak": [], "share": [], "lost": []}
    for _ in range(asked.repeats):
        peak = max(operations / min(timed(call, 1) for _ in range(3)) for call, operations in peaks)
        seconds = {name: timed(call, asked.steps) for name, call in calls.items()}
        found["peak"].append(peak / 1e9)
        for name, value in seconds.items():
            found[name].append(asked.batch_size / value)
        found["share"].append(6 * _macs(asked.model, splits) * asked.batch_size / seconds["bare"] / peak)
        found["lost"].append(1 - seconds["bare"] / seconds["full"])
    return {name: statistics.median(values) for name, values in found.items()}


def _macs(model: str, splits: int) -> int:
    from dico_tf.models.presets import PRESETS

    return splits * PRESETS[model].divided(splits).cost(32, 10).macs


def main(arguments: list[str]) -> None:
    values, _ = flags.parse(SCRIPT, arguments)
    asked = Measurement(**values)
    if asked.repeats < 5:
        raise UserError(f"--repeats={asked.repeats} must be at least 5")
    if len(asked.splits) > 1:
        for splits in asked.splits:
            _in_a_process(dataclasses.replace(asked, splits=(splits,)))
        return
    startup.tensorflow()
    from benchmarks.measure import emit, has_bfloat16

    if asked.precision == "mixed_bfloat16" and not has_bfloat16():
        raise UserError("this processor has no bfloat16 instructions: nothing to measure")
    about = {"model": asked.model, "batch_size": asked.batch_size, "precision": asked.precision}
    (splits,) = asked.splits
    found = measure(asked, splits)
    bar = BARS[asked.precision].get(splits) if asked.model == "wrn_16_8" else None
    rates = {"images_per_second": found["bare"], "peak_gflops": found["peak"]}
    emit("train_step_share", found["share"], "share of convolution peak", bar, splits=splits, **rates, **about)
    emit("train_step_lost", found["lost"], "share of a bare step", MOST_LOST, lower=True, splits=splits,
         images_per_second=found["full"], **about)  # fmt: skip


def _in_a_process(asked: Measurement) -> None:
    """Measure where TensorFlow has not begun, since threads are shared before it does."""
    values = dataclasses.asdict(asked) | {"splits": asked.splits[0]}
    words = [f"--{name}={value}" for name, value in values.items()]
    if status := subprocess.run([sys.executable, "-m", "benchmarks.train_step", *words]).returncode:
        raise SystemExit(status)


if __name__ == "__main__":
    flags.run(main)
