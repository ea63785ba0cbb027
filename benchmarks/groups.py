"""Training speed of a grouped network compared with a dense one of as many multiply-adds.

python -m benchmarks.groups
Times one training step (forward, gradient) of ResNeXt-29 8x64d at batch 16, and that of the same network with dense 3x3
convolutions of width m / sqrt(8), which cost as many multiply-adds. Then times one stage's 3x3 convolution alone, and
Keras' own grouped convolution.
"""

import dataclasses

from dico_tf import flags, startup
from dico_tf.config import option

BAR = 2.0  # times the dense network's step


@dataclasses.dataclass(frozen=True, kw_only=True)
class Groups:
    batch_size: int = option(16, "images per step")
    repeats: int = option(5, "interleaved repeats")


SCRIPT = flags.Script(name="-m benchmarks.groups", about=__doc__, fields=flags.of(Groups))


def _step(model, batch_size: int):
    import tensorflow as tf

    images = tf.random.uniform((batch_size, 32, 32, 3), 0, 255)
    labels = tf.random.uniform((batch_size,), 0, 10, tf.int64)
    variables = model.trainable_variables

    @tf.function(autograph=False)
    def step():
        with tf.GradientTape() as tape:
            logits = model(images, training=True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        return tf.add_n([tf.reduce_sum(g) for g in tape.gradient(loss, variables)])

    return lambda: step().numpy()


def _layer(kind, batch_size: int):
    import tensorflow as tf

    layer, x = kind(128, 3, padding="same", groups=8, use_bias=False), tf.random.normal((batch_size, 16, 16, 128))
    layer.build(x.shape)

    @tf.function(autograph=False)
    def step():
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(layer(x))
        return tf.add_n([tf.reduce_sum(g) for g in tape.gradient(loss, [x, layer.kernel])])

    return lambda: step().numpy()


def main(arguments: list[str]) -> None:
    values, _ = flags.parse(SCRIPT, arguments)
    settings = Groups(**values)
    startup.tensorflow()
    import keras

    from benchmarks import measure
    from dico_tf.layers.convolution import GroupedConvolution
    from dico_tf.models import resnext

    grouped = resnext.PRESETS["resnext_29_8x64d"]
    dense = dataclasses.replace(grouped, groups=1, base_width=grouped.base_width * grouped.groups / grouped.groups**0.5)
    networks = {name: resnext.build(spec, 32, 10) for name, spec in (("grouped", grouped), ("dense", dense))}
    steps = {name: _step(network, settings.batch_size) for name, network in networks.items()}
    seconds = measure.interleaved(steps, repeats=settings.repeats)
    about = {"batch_size": settings.batch_size}
    measure.emit(
        "grouped step",
        seconds["grouped"] / seconds["dense"],
        "times the dense step",
        BAR,
        lower=True,
        seconds=round(seconds["grouped"], 3),
        dense_seconds=round(seconds["dense"], 3),
        **about,
    )
    kinds = {"ours": GroupedConvolution, "keras": keras.layers.Conv2D}
    alone = measure.interleaved(
        {name: _layer(kind, settings.batch_size) for name, kind in kinds.items()}, settings.repeats
    )
    measure.emit("grouped layer", alone["keras"] / alone["ours"], "times faster than Keras' own", None, **about)


if __name__ == "__main__":
    flags.run(main)
