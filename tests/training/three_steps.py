"""Three real steps on one device, on two replicas, or as one of two machines; writes weights and scores.

python -m tests.training.three_steps one|mirrored|fit|machine[,...] FOLDER [setting=value ...]

Writes FOLDER/one.npz and so on; of two machines only the first writes.
"""

import ast
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from dico_tf.cotrain import DiCo
from dico_tf.data.epoch_order import plan
from dico_tf.data.pipeline import training_batches
from dico_tf.data.source import Split
from dico_tf.training import steps, variables
from dico_tf.training.optimizers import SGD
from dico_tf.training.strategy import devices
from tests.small_network import small, small_branches

STRATEGIES = {"one": "one", "mirrored": "mirrored", "fit": "mirrored", "machine": "multi_worker"}
SETTINGS = {"network": "small", "views": ("crop+flip",), "weight_decay": 1e-2, "sync_batch_norm": True, "seed": 3}


def images() -> Split:
    draw = np.random.default_rng(0)
    return Split(
        images=draw.integers(0, 256, (96, 16, 16, 3), np.uint8),
        labels=draw.integers(0, 10, 96),
        ids=np.arange(96).astype(str),
    )


def own_loop(place, model, split: Split, epochs: int) -> None:
    step, stop = steps.train_function(place, model), tf.constant(0.0)
    for epoch in range(epochs):
        indices = plan(96, 32, 3, epoch, worker=place.worker, workers=place.workers, replicas=place.replicas)
        model.begin_epoch(epoch)
        for batch in place.distribute(lambda indices=indices: training_batches(split, indices)):
            step(batch, stop)


def main(hows: list[str], folder: Path, settings: dict) -> None:
    if {"mirrored", "fit"} & set(hows):
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    for how in hows:
        take(how, folder, settings)


def take(how: str, folder: Path, settings: dict) -> None:
    place = devices(STRATEGIES[how])
    keras.utils.set_random_seed(7)
    with place.strategy.scope():
        chosen = {**SETTINGS, **settings}
        epochs = chosen.pop("epochs", 1)
        if (network := chosen.pop("network")) == "small":
            small().save(network := str(folder / "small.keras"))
        elif network == "branches":
            network = small_branches().reference
        model = DiCo(network, 2, classes=10, image_size=16, **chosen)
        model.compile(SGD(0.1, momentum=0.9, nesterov=True, use_ema=True, ema_momentum=0.9))
        if not model.optimizer.built:
            model.optimizer.build(model.branch_variables)
    split = images()
    if how == "fit":
        model.fit(training_batches(split, plan(96, 32, 3, 0)), epochs=1, shuffle=False, verbose=0)
    else:
        own_loop(place, model, split, epochs)
    scores = model.results()  # every machine takes part in the sum
    validation = steps.Evaluator(place, model, 20)(split)
    if place.chief:
        result = {
            **variables.values(variables.weights(model)),
            **{f"ema/{name}": a.numpy() for name, a in variables.averages(model).items()},
        }
        summed = {"scores": [scores["loss"], scores["agreement"], *scores["branch_accuracy"]]}
        summed["validation"] = [validation["loss"], *validation["branch_accuracy"], validation["ensemble_accuracy"]]
        np.savez(folder / f"{how}.npz", **result, **summed)


if __name__ == "__main__":
    pairs = (word.split("=", 1) for word in sys.argv[3:])
    main(sys.argv[1].split(","), Path(sys.argv[2]), {name: ast.literal_eval(value) for name, value in pairs})
