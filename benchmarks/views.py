"""Views per second at 32 x 32 pixels, batch 256: `python -m benchmarks.views`."""

import os
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras_cv
import tensorflow as tf

from benchmarks import measure
from dico_tf.views.image_views import ImageViews

BATCH, SIDE, BATCHES = 256, 32, 4
FILL = (125.3, 123.0, 113.9)  # CIFAR-10's mean colour
BARS = {  # views per second on two cores
    "crop+flip": None,
    "crop+flip+cutout": 40_000,
    "crop+flip+randaugment": 15_000,
    "crop+flip+trivialaugment": None,
    "crop+flip+autoaugment_cifar+erase": None,
    "resized_crop+flip+autoaugment_imagenet": None,
    "simple_crop+flip+three_augment+jitter:0.3": None,
}
KERAS_CV = "keras_cv.layers.RandAugment"


def _inputs() -> tuple[tf.Tensor, tf.Tensor]:
    """Return smooth noisy images, uint8 [B, H, W, 3], and their indices; plain noise would make equalize look fast."""
    coarse = tf.random.stateless_uniform([BATCH, 4, 4, 3], [1, 2], 0, 256)
    noise = tf.random.stateless_normal([BATCH, SIDE, SIDE, 3], [3, 4], stddev=6.0)
    images = tf.clip_by_value(tf.image.resize(coarse, [SIDE, SIDE], "bicubic") + noise, 0, 255)
    return tf.cast(images, tf.uint8), tf.range(BATCH, dtype=tf.int64)


def _ours(policy: str) -> Callable[[], None]:
    views = ImageViews([policy], 1, 1, FILL)
    images, index = _inputs()

    @tf.function(autograph=False)  # as in a train_step
    def step(epoch: tf.Tensor) -> tf.Tensor:
        return views.view(images, index, epoch, 0)

    epochs = iter(range(1_000_000))  # every batch draws new random numbers
    return lambda: [step(tf.constant(next(epochs))).numpy() for _ in range(BATCHES)]


def _theirs() -> Callable[[], None]:
    """Return a call of keras-cv's RandAugment with two operations, without crop and flip; it needs AutoGraph."""
    layer = keras_cv.layers.RandAugment(value_range=(0, 255), augmentations_per_image=2, magnitude=0.9, rate=0.5)
    images, _ = _inputs()
    images = tf.cast(images, tf.float32)
    step = tf.function(lambda: layer(images))
    return lambda: [step().numpy() for _ in range(BATCHES)]


def main() -> None:
    seconds = measure.interleaved({**{policy: _ours(policy) for policy in BARS}, KERAS_CV: _theirs()}, repeats=15)
    speed = {name: BATCH * BATCHES / time for name, time in seconds.items()}
    for name, bar in {**BARS, KERAS_CV: None}.items():
        measure.emit(
            f"views {name}",
            round(speed[name]),
            "views/s",
            bar,
            times_keras_cv_randaugment=round(speed[name] / speed[KERAS_CV], 2),
            batch=BATCH,
            image_size=SIDE,
        )


if __name__ == "__main__":
    main()
