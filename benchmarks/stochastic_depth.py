"""Time and memory of a training step that skips dropped residual branches, compared with one that masks them.

python -m benchmarks.stochastic_depth [--rate=0.5] [--batch_size=32] [--model=vit_s_16 --depth=12 --heads=3]
Steps of the two forms take turns in one process; the peak memory of each form is measured in its own process. The
batch size counts rows: with two submodels it is twice the number of images.
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

SLOWEST = 0.75  # share of the masked step's time
FORMS = ("masked", "efficient")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measurement:
    model: str = option("vit_s_16", "preset of a vision transformer")
    depth: int = option(12, "blocks")
    heads: int = option(3, "attention heads, each as wide as the preset's")
    image_size: int = option(224, "pixels of a side")
    rate: float = option(0.5, "rate at which residual branches are dropped")
    batch_size: int = option(32, "rows in a step")
    precision: str = option("float32", "number format of the network's computations", ("float32", "mixed_bfloat16"))
    repeats: int = option(7, "interleaved repeats")
    alone: str = option("", "only run steps of this form in this process, and print their peak memory")


SCRIPT = flags.Script(name="-m benchmarks.stochastic_depth", about=__doc__, fields=flags.of(Measurement))


def training_step(settings: Measurement, form: str):
    """Return a call that runs one step: forward, cross-entropy, backward, update."""
    import keras
    import tensorflow as tf

    from dico_tf.layers.stochastic_depth import set_form
    from dico_tf.models import vit

    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(settings.precision)
    spec = dataclasses.replace(
        vit.PRESETS[settings.model], depth=settings.depth, heads=settings.heads, hidden=0, drop_path=settings.rate
    )
    model = vit.build(spec, settings.image_size, 1000)
    set_form(model, form)
    optimizer = keras.optimizers.AdamW(1e-4)
    optimizer.build(model.trainable_variables)
    images = tf.random.uniform((settings.batch_size, settings.image_size, settings.image_size, 3), 0, 255)
    labels = tf.random.uniform((settings.batch_size,), 0, 1000, tf.int32)

    @tf.function(autograph=False)
    def step():
        with tf.GradientTape() as tape:
            logits = model(images, training=True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        return loss

    return lambda: step().numpy()


def peak(settings: Measurement, form: str) -> float:
    """Return the peak megabytes of a process that runs some steps of a form."""
    values = dataclasses.asdict(dataclasses.replace(settings, alone=form))
    words = [f"--{name}={value}" for name, value in values.items()]
    command = [sys.executable, "-m", "benchmarks.stochastic_depth", *words]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])["peak_mb"]


def alone(settings: Measurement) -> None:
    """Run steps of one form and print the peak memory of this process."""
    step = training_step(settings, settings.alone)
    for _ in range(3):
        step()
    print(json.dumps({"peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


def main(arguments: list[str]) -> None:
    values, _ = flags.parse(SCRIPT, arguments)
    settings = Measurement(**values)
    if not 0 < settings.rate < 1 or settings.repeats < 5 or settings.alone not in ("", *FORMS):
        raise UserError(
            "--rate must be above 0 and below 1, --repeats at least 5, and --alone empty, masked or efficient"
        )
    startup.tensorflow()
    if settings.alone:
        alone(settings)
        return
    from benchmarks.measure import emit, turns

    about = {name: getattr(settings, name) for name in ("model", "depth", "heads", "rate", "batch_size", "precision")}
    memory = {form: peak(settings, form) for form in FORMS}
    seconds = turns({form: training_step(settings, form) for form in FORMS}, settings.repeats)
    shares = [e / m for e, m in zip(seconds["efficient"], seconds["masked"], strict=True)]
    medians = {form: round(1000 * statistics.median(times), 1) for form, times in seconds.items()}
    emit("stochastic_depth_step", statistics.median(shares), "share of the masked step", SLOWEST, lower=True,
         milliseconds=medians, **about)  # fmt: skip
    less = memory["efficient"] / memory["masked"]
    emit("stochastic_depth_memory", less, "share of the masked process's peak", 1.0, met=less < 1,
         megabytes={form: round(megabytes) for form, megabytes in memory.items()}, **about)  # fmt: skip


if __name__ == "__main__":
    flags.run(main)
