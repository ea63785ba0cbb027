"""Views and mixing of a batch on two replicas against the same halves without: `python -m tests.views.two_replicas`."""

import numpy as np
import tensorflow as tf

POLICIES = ("crop+flip+randaugment+erase", "resized_crop+autoaugment_imagenet+cutout")
B = 16


def main() -> None:
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    from dico_tf.views.image_views import ImageViews
    from dico_tf.views.mixing import Mixing

    images = np.random.default_rng(0).integers(0, 256, (2 * B, 16, 16, 3), np.uint8)
    views, mixing = ImageViews(POLICIES, 2, 1, (125.0, 120.0, 110.0)), Mixing(0.2, 1.0, 1)

    def views_and_targets(pictures: tf.Tensor, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        mixed, targets = mixing(views(pictures, index, 3), tf.one_hot(index % 10, 10), 5)
        return tf.stack(mixed, axis=1), targets  # [B, S, H, W, 3], [B, C]

    def half(values: np.ndarray, replica: int) -> tf.Tensor:
        return tf.constant(values[replica * B :][:B])

    @tf.function(autograph=False)
    def step():
        place = [
            strategy.experimental_distribute_values_from_function(
                lambda context, values=values: half(values, context.replica_id_in_sync_group)
            )
            for values in (images, np.arange(2 * B))
        ]
        return strategy.run(views_and_targets, place)

    there = [strategy.experimental_local_results(part) for part in step()]
    for replica in range(2):
        here = views_and_targets(half(images, replica), half(np.arange(2 * B), replica))
        for part, want in zip(there, here, strict=True):
            np.testing.assert_allclose(part[replica], want, atol=2e-2)


if __name__ == "__main__":
    main()
