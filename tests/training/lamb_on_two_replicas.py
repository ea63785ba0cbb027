"""LAMB on two replicas against its golden values: `python -m tests.training.lamb_on_two_replicas`."""

import keras
import numpy as np
import tensorflow as tf

from dico_tf.training.lamb import Lamb
from tests.training.test_lamb import AFTER, flat, gradients, pair


def stepping(strategy, lamb, variables):
    """Run steps in which the replicas have gradients 3 g and -g, whose sum is twice g."""

    @tf.function(autograph=False)
    def step(parts):
        def on_replica():
            number = tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, tf.float32)
            scale = lamb.scale_loss(0.5 * (3.0 - 4.0 * number))
            lamb.apply([scale * part for part in parts], variables)

        strategy.run(on_replica)

    return step


def main() -> None:
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    for scaled in (False, True):
        with strategy.scope():
            variables, lamb = pair(), Lamb(3e-3, weight_decay=0.05)
            if scaled:
                lamb = keras.optimizers.LossScaleOptimizer(lamb, initial_scale=8.0)
            lamb.build(variables)
        step = stepping(strategy, lamb, variables)
        for number, expected in enumerate(AFTER):
            step([tf.constant(part) for part in gradients(number)])
            np.testing.assert_allclose(flat(variables), np.concatenate(expected), atol=1e-6)


if __name__ == "__main__":
    main()
