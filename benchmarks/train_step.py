"""Images per second of a training step, as a share of the convolution peak of the same process.

python -m benchmarks.train_step --model=wrn_16_8 --splits=1,2,4 --batch_size=64 [--precision=mixed_bfloat16]
A step counts as three forward passes of two operations per multiply-add. The peak is the best of 3x3 convolutions with
256 and 512 channels on 16x16 and 32x32 maps, timed between the steps. Threads are shared as in train.py, so each number
of branches is measured in its own process. If each operation has one thread, the peak is that of one convolution on
every core at the same time.
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
MOST_LOST = 0.07  # largest share of time for views, mixing, metrics and the input pipeline


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measurement:
    model: str = option("wrn_16_8", "preset of the whole network")
    splits: tuple[int, ...] = option((1, 2, 4), "numbers of branches")
    batch_size: int = option(64, "images per step")
    precision: str = option("float32", "number format of the network's computations", ("float32", "mixed_bfloat16"))
    repeats: int = option(5, "interleaved repeats")
    steps: int = option(3, "steps in each repeat")


SCRIPT = flags.Script(name="-m benchmarks.train_step", about=__doc__, fields=flags.of(Measurement))


def peak_functions(precision: str, lanes: int = 1) -> list:
    """Return (call, operations) of convolutions, `lanes` at once in each call."""
    import tensorflow as tf

    kind = tf.bfloat16 if precision == "mixed_bfloat16" else tf.float32

    @tf.function(reduce_retracing=True)
    def convolve(x, k):
        """Convolve a part of the images in each lane; return one number, so that almost nothing is copied out."""
        maps = [tf.nn.conv2d(part, k, 1, "SAME") for part in tf.split(x, lanes)]
        return tf.add_n([tf.reduce_sum(tf.cast(each[:, 0, 0, 0], tf.float32)) for each in maps])

    functions = []
    for channels in (256, 512):
        for size in (16, 32):
            images = 64 // lanes * lanes
            x = tf.cast(tf.random.normal([images, size, size, channels]), kind)
            kernel = tf.cast(tf.random.normal([3, 3, channels, channels]), kind)
            operations = 2 * images * size * size * 9 * channels * channels
            functions.append((lambda x=x, kernel=kernel: convolve(x, kernel).numpy(), operations))
    return functions


def bare_step(model, optimizer):
    """Return a training step without views, mixing and metrics: forward, cross-entropies, backward, update."""
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
    """Return the training step as train.py runs it."""
    import tensorflow as tf

    return tf.function(model.train_step, autograph=False)


def subjects(settings: Measurement, splits: int) -> dict:
    """Return two calls: "bare", a plain step, and "full", with views, mixup, metrics and the input pipeline."""
    import keras
    import tensorflow as tf

    from dico_tf.cotrain import DiCo
    from dico_tf.data.pipeline import training_batches
    from dico_tf.data.source import Split
    from dico_tf.training.optimizers import SGD

    keras.utils.set_random_seed(0)
    model = DiCo(
        settings.model, splits, classes=10, views=(VIEWS,), mixup=0.2, weight_decay=1e-4, dtype=settings.precision
    )
    model.compile(SGD(1e-3, momentum=0.9, nesterov=True))
    model.optimizer.build(model.branch_variables)
    size, batch = 20_000, settings.batch_size
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
    """Return the mean seconds of a call."""
    started = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - started) / times


def measure(settings: Measurement, splits: int) -> dict:
    """Return medians over the repeats, in each of which peak, bare and full steps take turns."""
    from dico_tf.data.image_decoding import cores
    from dico_tf.training.strategy import share_threads

    lanes = cores() if share_threads(splits) else 1
    calls, peaks = subjects(settings, splits), peak_functions(settings.precision, lanes)
    for call in [*calls.values(), *calls.values(), *(p for p, _ in peaks)]:
        call()
    results = {"bare": [], "full": [], "peak": [], "share": [], "lost": []}
    for _ in range(settings.repeats):
        peak = max(operations / min(timed(call, 1) for _ in range(3)) for call, operations in peaks)
        seconds = {name: timed(call, settings.steps) for name, call in calls.items()}
        results["peak"].append(peak / 1e9)
        for name, value in seconds.items():
            results[name].append(settings.batch_size / value)
        results["share"].append(6 * _macs(settings.model, splits) * settings.batch_size / seconds["bare"] / peak)
        results["lost"].append(1 - seconds["bare"] / seconds["full"])
    return {name: statistics.median(values) for name, values in results.items()}


def _macs(model: str, splits: int) -> int:
    from dico_tf.models.presets import PRESETS

    return splits * PRESETS[model].divided(splits).cost(32, 10).macs


def main(arguments: list[str]) -> None:
    values, _ = flags.parse(SCRIPT, arguments)
    settings = Measurement(**values)
    if settings.repeats < 5:
        raise UserError(f"--repeats={settings.repeats} must be at least 5")
    if len(settings.splits) > 1:
        for splits in settings.splits:
            _in_a_process(dataclasses.replace(settings, splits=(splits,)))
        return
    startup.tensorflow()
    from benchmarks.measure import emit, has_bfloat16

    if settings.precision == "mixed_bfloat16" and not has_bfloat16():
        raise UserError("--precision=mixed_bfloat16 needs a processor with bfloat16 instructions; use float32")
    about = {"model": settings.model, "batch_size": settings.batch_size, "precision": settings.precision}
    (splits,) = settings.splits
    medians = measure(settings, splits)
    bar = BARS[settings.precision].get(splits) if settings.model == "wrn_16_8" else None
    rates = {"images_per_second": medians["bare"], "peak_gflops": medians["peak"]}
    emit("train_step_share", medians["share"], "share of convolution peak", bar, splits=splits, **rates, **about)
    emit("train_step_lost", medians["lost"], "share of a full step", MOST_LOST, lower=True, splits=splits,
         images_per_second=medians["full"], **about)  # fmt: skip


def _in_a_process(settings: Measurement) -> None:
    """Measure in a new process, because threads must be shared before TensorFlow starts."""
    values = dataclasses.asdict(settings) | {"splits": settings.splits[0]}
    words = [f"--{name}={value}" for name, value in values.items()]
    if status := subprocess.run([sys.executable, "-m", "benchmarks.train_step", *words]).returncode:
        raise SystemExit(status)


if __name__ == "__main__":
    flags.run(main)
