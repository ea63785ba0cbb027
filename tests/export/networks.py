"""Members and files of tiny networks, for tests of what is made of them."""

import keras
import numpy as np

from dico_tf.export.graph import ExportMember
from dico_tf.models.presets import PRESETS

_PASSES = 10  # by which the statistics become those of such images


def images(count: int, draw: np.random.Generator) -> np.ndarray:
    """Grain on colours of their own, float32 [N, 32, 32, 3]: grain alone looks all the same to a network."""
    grain = draw.uniform(-64, 64, (count, 32, 32, 3)) + draw.uniform(0, 255, (count, 1, 1, 3))
    return grain.clip(0, 255).round().astype(np.float32)


def branch(preset: str, seed: int = 1, classes: int = 7) -> keras.Model:
    """Half of a preset, with gammas, statistics and a head as after some training: its answers depend on the image."""
    keras.utils.set_random_seed(seed)
    network = PRESETS[preset].divided(2, "params", 32, classes).build(32, classes)
    draw = np.random.default_rng(seed)
    for variable in network.variables:
        if variable.path.rsplit("/", 1)[-1] in ("gamma", "beta"):
            variable.assign(variable + draw.uniform(0.1, 0.5, variable.shape))
        elif variable.path.endswith("/scale"):  # of residual branches, which start next to nothing
            variable.assign(draw.uniform(0.5, 1.5, variable.shape))
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.5
    for _ in range(_PASSES):
        network(images(8, draw), training=True)
    head = network.layers[-1].kernel
    head.assign(draw.normal(0, 1, head.shape))
    return network


def member(*networks: keras.Model, name: str = "", average: str = "logits") -> ExportMember:
    size, classes = networks[0].input_shape[1], networks[0].output_shape[-1]
    name = name or ("branch_0" if len(networks) == 1 else "committee")
    names = [f"class_{c}" for c in range(classes)]
    return ExportMember(
        name=name, networks=networks, class_names=names, image_size=size, short_side=size, average=average
    )
