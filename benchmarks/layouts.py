"""Speed of S branches on one machine: in parallel as the graph allows, in sequence, or as groups of one network.

python -m benchmarks.layouts --splits=2,4 [--inter_op=1]
Each branch is a stack of 3x3 convolutions and batch normalisations as wide as WRN-16-8's second stage divided by S.
Prints images per second, forward and backward, of each layout and its ratio to the parallel one.
"""

import dataclasses

from dico_tf import flags, startup
from dico_tf.config import option
from dico_tf.divide.rules import root

WIDTH, SIZE, DEPTH, BATCH = 256, 16, 4, 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layouts:
    splits: tuple[int, ...] = option((2, 4), "numbers of branches")
    inter_op: int = option(0, "operations TensorFlow runs at once; 0 = its own choice")
    repeats: int = option(7, "interleaved repeats")


SCRIPT = flags.Script(name="-m benchmarks.layouts", about=__doc__, fields=flags.of(Layouts))


def _step(forward, kernels: list):
    """Return a call that computes all gradients, summed to one number so that nothing large is copied out."""
    import tensorflow as tf

    @tf.function(autograph=False)
    def step():
        with tf.GradientTape() as tape:
            loss = forward()
        return tf.add_n([tf.reduce_sum(g) for g in tape.gradient(loss, kernels)])

    return lambda: step().numpy()


def _stack(x, kernels: list, width: int):
    import tensorflow as tf

    one, zero = tf.ones(width), tf.zeros(width)
    for kernel in kernels:
        y = tf.nn.conv2d(x, kernel, 1, "SAME")  # grouped where the kernel has fewer inputs than x has channels
        x = tf.nn.relu(tf.compat.v1.nn.fused_batch_norm(y, one, zero)[0])
    return tf.reduce_mean(x)


def layouts(splits: int) -> dict:
    """Return a training step of each layout by name."""
    import tensorflow as tf

    width = root(WIDTH, splits, 0.4)
    x = tf.random.normal([BATCH, SIZE, SIZE, width])
    wide = tf.concat([x] * splits, axis=-1)
    apart = [[tf.Variable(tf.random.normal([3, 3, width, width]) * 0.03) for _ in range(DEPTH)] for _ in range(splits)]
    grouped = [tf.Variable(tf.random.normal([3, 3, width, width * splits]) * 0.03) for _ in range(DEPTH)]
    every = [kernel for branch in apart for kernel in branch]

    def parallel():
        return tf.add_n([_stack(x, kernels, width) for kernels in apart])

    def in_sequence():
        total = tf.constant(0.0)
        for kernels in apart:
            with tf.control_dependencies([total]):
                total = total + _stack(tf.identity(x), kernels, width)
        return total

    return {
        "parallel": _step(parallel, every),
        "in sequence": _step(in_sequence, every),
        "grouped": _step(lambda: _stack(wide, grouped, width * splits), grouped),
    }


def main(arguments: list[str]) -> None:
    values, _ = flags.parse(SCRIPT, arguments)
    settings = Layouts(**values)
    startup.tensorflow()
    import tensorflow as tf

    from benchmarks.measure import emit, interleaved

    if settings.inter_op:
        tf.config.threading.set_inter_op_parallelism_threads(settings.inter_op)
    for splits in settings.splits:
        times = interleaved(layouts(splits), repeats=settings.repeats)
        for name, seconds in times.items():
            ratio = times["parallel"] / seconds
            emit(
                f"layout {name}", BATCH / seconds, "images/s", None, splits=splits, inter_op=settings.inter_op,
                times_parallel=round(ratio, 3),
            )  # fmt: skip


if __name__ == "__main__":
    flags.run(main)
