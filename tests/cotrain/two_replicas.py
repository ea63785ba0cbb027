"""Submodels on two replicas, in a process of their own: `python -m tests.cotrain.two_replicas`.

If nothing is dropped, a step does the same as on one device. If rows are dropped, each replica draws its own.
"""

import keras
import numpy as np
import tensorflow as tf

SIZE = 16


def main() -> None:
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    draw = np.random.default_rng(0)
    parts = {
        "image": draw.integers(0, 256, (SIZE, 32, 32, 3), np.uint8),
        "label": np.arange(SIZE) % 5,
        "index": np.arange(SIZE),
    }

    def model():
        from dico_tf.cotrain import Submodels

        keras.utils.set_random_seed(0)
        built = Submodels("vit_tiny", classes=5, views=("crop+flip",), drop_path=0.5)
        built.compile(keras.optimizers.SGD(0.5))
        built.optimizer.build(built.branch_variables)
        return built

    def still(built):
        for layer in built.branches[0].layers:
            if hasattr(layer, "rate"):
                layer.rate = 0.0
        return built

    def part(values, replica: int):
        half = SIZE // 2
        return tf.constant(values[replica * half :][:half])

    batch = {
        name: strategy.experimental_distribute_values_from_function(
            lambda context, values=values: part(values, context.replica_id_in_sync_group)
        )
        for name, values in parts.items()
    }
    one = still(model())
    tf.function(one.train_step, autograph=False)({name: tf.constant(values) for name, values in parts.items()})
    with strategy.scope():
        two, drawing = still(model()), model()

    @tf.function(autograph=False)
    def step(built):
        return strategy.run(lambda data: built.train_step(data) and None, (batch,))

    step(two)
    for alone, together in zip(one.branch_variables, two.branch_variables, strict=True):
        for copy in strategy.experimental_local_results(together.value):
            np.testing.assert_allclose(copy.numpy(), alone.numpy(), atol=1e-5)

    from dico_tf.layers.stochastic_depth import droppings

    @tf.function(autograph=False)
    def drawn():
        x = tf.zeros((64, 3))
        return strategy.run(lambda: [layer(x, training=True)[1] for layer in droppings(drawing.branches[0])])

    result = [tuple(sorted(rows.numpy())) for _ in range(2) for every in drawn() for rows in every.values]
    assert len(result) == 2 * 8 * 2 and len(set(result)) == len(result)
    assert {len(rows) for rows in result} == {32}
    step(drawing)
    for variable in drawing.branch_variables:
        here, there = strategy.experimental_local_results(variable.value)
        np.testing.assert_array_equal(here.numpy(), there.numpy())
    print("alike")


if __name__ == "__main__":
    main()
