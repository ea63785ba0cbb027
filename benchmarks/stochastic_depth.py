"""What dropped residual branches cost: a training step that leaves them out against one that computes and masks them.

python -m benchmarks.stochastic_depth [--rate=0.5] [--batch_size=32] [--model=vit_s_16 --depth=12 --heads=3]
Steps of the two forms take turns in one process; peak memory is that of a process for each. Rows are those of the
batch: for two submodels, twice its images.
"""

import dataclasses
import json
import resource
import statistics
import subprocess
import sys
from pathlib import Path

from dico_tf import flags, startup
from dico_tf.config import option
from dico_tf.errors import UserError

SLOWEST = 0.75  # of the masked step
FORMS = ("masked", "efficient")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measurement:
    model: str = option("vit_s_16", "preset, of a vision transformer")
    depth: int = option(12, "blocks")
    heads: int = option(3, "heads, of the preset's width")
    image_size: int = option(224, "pixels of a side")
    rate: float = option(0.5, "rate at which residual branches are dropped")
    batch_size: int = option(32, "rows of a step")
    precision: str = option("float32", "numbers the network computes with", ("float32", "mixed_bfloat16"))
    repeats: int = option(7, "interleaved repeats")
    alone: str = option("", "run steps of this form and print their peak memory, in a process by themselves")


SCRIPT = flags.Script(name="-m benchmarks.stochastic_depth", about=__doc__, fields=flags.of(Measurement))


def training_step(asked: Measurement, form: str):
    """A call that makes a step: forward, cross-entropy, backward, update."""
    import keras
    import tensorflow as tf

    from dico_tf.layers.stochastic_depth import set_form
    from dico_tf.models import vit

    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(asked.precision)
    spec = dataclasses.replace(
        vit.PRESETS[asked.model], depth=asked.depth, heads=asked.heads, hidden=0, drop_path=asked.rate
    )
    model = vit.build(spec, asked.image_size, 1000)
    set_form(model, form)
    optimizer = keras.optimizers.AdamW(1e-4)
    optimizer.build(model.trainable_variables)
    images = tf.random.uniform((asked.batch_size, asked.image_size, asked.image_size, 3), 0, 255)
    labels = tf.random.uniform((asked.batch_size,), 0, 1000, tf.int32)

    @tf.function(autograph=False)
    def step():
        with tf.GradientTape() as tape:
            logits = model(images, training=True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        return loss

    return lambda: step().numpy()


def peak(asked: Measurement, form: str) -> float:
    """Megabytes that a process held at most while it made some steps."""
    said = dataclasses.asdict(dataclasses.replace(asked, alone=form))
    words = [f"--{name}={value}" for name, value in said.items()]
    command = [sys.executable, "-m", "benchmarks.stochastic_depth", *words]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])["peak_mb"]


def alone(asked: Measurement) -> None:
    step = training_step(asked, asked.alone)
    for _ in range(3):
        step()
    print(json.dumps({"peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


def main(arguments: list[str]) -> None:
    values, _ = flags.parse(SCRIPT, arguments)
    asked = Measurement(**values)
    if not 0 < asked.rate < 1 or asked.repeats < 5 or asked.alone not in ("", *FORMS):
        raise UserError(
            "give --rate above 0 and below 1, at least 5 --repeats, and --alone=masked or efficient if at all"
        )
    startup.tensorflow()
    if asked.alone:
        alone(asked)
        return
    from benchmarks.measure import emit, turns

    about = {name: getattr(asked, name) for name in ("model", "depth", "heads", "rate", "batch_size", "precision")}
    memory = {form: peak(asked, form) for form in FORMS}
    seconds = turns({form: training_step(asked, form) for form in FORMS}, asked.repeats)
    shares = [e / m for e, m in zip(seconds["efficient"], seconds["masked"], strict=True)]
    medians = {form: round(1000 * statistics.median(times), 1) for form, times in seconds.items()}
    emit("stochastic_depth_step", statistics.median(shares), "share of the masked step", SLOWEST, lower=True,
         milliseconds=medians, **about)  # fmt: skip
    less = memory["efficient"] / memory["masked"]
    emit("stochastic_depth_memory", less, "share of the masked process's peak", 1.0, met=less < 1,
         megabytes={form: round(held) for form, held in memory.items()}, **about)  # fmt: skip


if __name__ == "__main__":
    flags.run(main)
