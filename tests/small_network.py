"""A network that is built and traced in a second, for tests of what does not depend on the network."""

import functools
import tempfile
from pathlib import Path

import keras

from dico_tf.models.branch_list import BranchList, listed_branch

_FOLDER = tempfile.TemporaryDirectory(prefix="dico_tf_small_")


def small(classes: int = 10, strides: tuple[int, ...] = (1, 2, 2)) -> keras.Model:
    """Return a network with batch statistics, strides, and weights with and without decay."""
    image = keras.Input((None, None, 3))
    outputs = keras.layers.Rescaling(1 / 255, name="rescaled")(image)
    for n, stride in enumerate(strides):
        outputs = keras.layers.Conv2D(16, 3, stride, padding="same", use_bias=False, name=f"conv_{n}")(outputs)
        outputs = keras.layers.BatchNormalization(name=f"norm_{n}")(outputs)
        outputs = keras.layers.ReLU(name=f"relu_{n}")(outputs)
    outputs = keras.layers.GlobalAveragePooling2D(name="pool")(outputs)
    return keras.Model(image, keras.layers.Dense(classes, name="logits")(outputs), name="small")


@functools.cache
def small_file() -> str:
    """Return the path of a .keras file with the network, for models that take a file instead of a preset."""
    path = str(Path(_FOLDER.name) / "small.keras")
    small().save(path)
    return path


def small_branches() -> BranchList:
    """Return two branches of other depths, for images of 16 and of 12 pixels."""
    networks = {"deep": (small(), 16), "flat": (small(strides=(2,)), 12)}
    listed = [listed_branch(network, name, size, f"{name}.keras")[0] for name, (network, size) in networks.items()]
    return BranchList(listed=tuple(listed))
