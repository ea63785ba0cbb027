"""Exports of tiny networks with random weights: `path = exports.small(folder)`."""

import functools
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from dico_tf.files import manifest
from tests import small_network

SIZE, CLASSES = 32, ("cat", "dog", "eel")
BRANCHES = ("branch_0", "branch_1")


@functools.cache
def branch(seed: int = 0, head_bias: float | None = None, batch: int = 1) -> bytes:
    """Return a float32 LiteRT file; head_bias=nan makes its logits NaN."""
    import keras

    from dico_tf.export import convert

    keras.utils.set_random_seed(seed)
    network = small_network.small(len(CLASSES))
    draw = np.random.default_rng(seed)
    for variable in network.variables:
        match variable.path.rsplit("/", 1)[-1]:
            case "gamma" | "moving_variance":
                variable.assign(draw.uniform(0.1, 0.5, variable.shape))
            case "moving_mean":
                variable.assign(draw.uniform(-0.1, 0.1, variable.shape))
    network.layers[-1].kernel.assign(draw.normal(0, 100, network.layers[-1].kernel.shape))  # random images look alike
    if head_bias is not None:
        network.layers[-1].bias.assign(np.full(len(CLASSES), head_bias))
    image = keras.Input((SIZE, SIZE, 3), name="image")
    return convert.network_to_tflite(keras.Model(image, network(image)), batch)


@functools.cache
def heavy(convolutions: int = 2) -> bytes:
    """Return a LiteRT file that takes about 10 ms per image."""
    import keras

    from dico_tf.export import convert

    keras.utils.set_random_seed(0)
    image = keras.Input((SIZE, SIZE, 3), name="image")
    x = image / 255.0
    for n in range(convolutions):
        x = keras.layers.Conv2D(128, 5, padding="same", activation="relu", name=f"conv_{n}")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return convert.network_to_tflite(keras.Model(image, keras.layers.Dense(len(CLASSES), name="head")(x)))


@functools.cache
def committee(seeds: tuple[int, ...] = (0, 1)) -> bytes:
    """Return a LiteRT file with all outputs of a committee; its branches are linear."""
    import tensorflow as tf

    draw = np.random.default_rng(seeds)
    weights = draw.normal(0, 1e-3, (SIZE * SIZE * 3, len(seeds) * len(CLASSES))).astype(np.float32)

    def serve(image):
        logits = tf.reshape(tf.reshape(image, (1, -1)) @ weights, (1, len(seeds), len(CLASSES)))
        branches, mean = tf.nn.softmax(logits), tf.reduce_mean(logits, 1)
        spread = _entropy(tf.reduce_mean(branches, 1)) - tf.reduce_mean(_entropy(branches), 1)
        return {
            "logits": mean,
            "probabilities": tf.nn.softmax(mean),
            "branch_probabilities": branches,
            "disagreement": spread,
        }

    def _entropy(p):
        return -tf.reduce_sum(p * tf.math.log(p), -1)

    return of_function(serve)


def of_function(serve: Callable) -> bytes:
    """Return a LiteRT file of a function from an image [1, SIZE, SIZE, 3] to {output: tensor}."""
    import tensorflow as tf

    signature = tf.TensorSpec((1, SIZE, SIZE, 3), tf.float32, name="image")
    module = tf.Module()
    module.serve = tf.function(serve, input_signature=[signature], autograph=False)
    return tf.lite.TFLiteConverter.from_concrete_functions([module.serve.get_concrete_function()], module).convert()


def small(folder: Path, id: str = "first", seed: int = 0) -> Path:
    """Write an export of two branches; another seed gives other weights."""
    return written(folder, {name: branch(seed + n) for n, name in enumerate(BRANCHES)}, id)


def written(folder: Path, files: dict[str, bytes], id: str = "first", cascade: dict | None = None, **changes) -> Path:
    """Write an export of these members' float32 files, or replace the one that exists; return its manifest's path."""
    place = folder / "tflite" / id
    place.mkdir(parents=True, exist_ok=True)
    members = []
    for name, content in files.items():
        (place / f"{name}_float32.tflite").write_bytes(content)
        members.append(
            {
                "name": name,
                "kind": "committee" if name == "committee" else "branch",
                "input_size": SIZE,
                "short_side": SIZE,
                "class_names": list(CLASSES),
                "params": 7,
                "macs": 70,
                "metrics": {},
                "files": {"float32": manifest.measure(place / f"{name}_float32.tflite", folder)},
                **changes,
            }
        )
    branches = [name for name in files if name != "committee"] or ["committee"]
    committee = {"members": branches, "average": "logits", "cascade": cascade}
    content = {"id": id, "members": members, "committee": committee}
    (folder / "manifest.new").write_text(manifest.text(content))
    os.replace(folder / "manifest.new", folder / manifest.NAME)
    return folder / manifest.NAME


def images(count: int, seed: int = 0) -> np.ndarray:
    """Return random images, uint8 [count, SIZE, SIZE, 3]."""
    return np.random.default_rng(seed).integers(0, 256, (count, SIZE, SIZE, 3)).astype(np.uint8)
