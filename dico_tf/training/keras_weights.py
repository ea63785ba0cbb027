"""Weights of .keras files: those of one network, for every branch, or of a saved DiCo."""

import dataclasses
from pathlib import Path

import numpy as np

from dico_tf.cotrain.dico import DiCo
from dico_tf.divide.networks.graph import flat_with_origins, frozen_layers
from dico_tf.errors import UserError
from dico_tf.models import custom
from dico_tf.models.presets import find
from dico_tf.models.torch_weights import Carried
from dico_tf.training import variables


@dataclasses.dataclass(frozen=True)
class KerasWeights:
    """The weights in a .keras file.

    Attributes:
        arrays: by the names of `variables.weights`; those of a single network begin with branch_0.
        splits: number of branches of a saved DiCo; 0 = a single network.
        frozen: layers with `trainable=False`, e.g. branch_0/conv_1.
        inference: layers that the network calls with `training=False`.
    """

    arrays: dict[str, np.ndarray]
    splits: int
    frozen: list[str]
    inference: list[str]

    def of(self, splits: int) -> "KerasWeights":
        """Return the weights for this many branches: each gets those of a single network; a DiCo's stay as they are."""
        if self.splits:
            return self

        def each(names):
            return [f"branch_{s}/{name.split('/', 1)[1]}" for s in range(splits) for name in names]

        repeated = dict(zip(each(self.arrays), [*self.arrays.values()] * splits, strict=True))
        return KerasWeights(repeated, splits, each(self.frozen), each(self.inference))


def is_file(origin: str | Path) -> bool:
    """Return True for a path that ends in .keras."""
    return Path(origin).suffix == custom.SUFFIX


def read(path: str | Path) -> KerasWeights:
    """Load the weights in a .keras file. Raises UserError if it cannot be read."""
    if not Path(path).is_file():
        raise UserError(f"--init_from={path} does not exist; give a file written by model.save")
    model = custom.read(path, "--init_from")
    if isinstance(model, DiCo):
        arrays = variables.values(variables.weights(model))
        return KerasWeights(arrays, model.splits, [*model.settings.frozen_layers], [*model.settings.inference_layers])
    try:
        _, origins = flat_with_origins(model)
    except UserError as error:
        raise UserError(f"--init_from={path}: {error}") from None
    names = {id(layer): f"branch_0/{copy.name}" for layer, copy in origins}
    weighted = [layer for layer, _ in origins if getattr(layer, "variables", None)]
    arrays = {
        f"{names[id(layer)]}/{name}": np.asarray(variable.numpy())
        for layer in weighted
        for name, variable in variables.of_layer(layer).items()
    }
    layers = frozen_layers(model, origins)
    return KerasWeights(
        arrays, 0, *([f"branch_0/{name}" for name in each] for each in (layers.frozen, layers.inference))
    )


def load(model: DiCo, path: str | Path) -> Carried:
    """Load the weights in a .keras file into a model, by names and shapes; each branch gets those of a single network.

    Returns the names of variables that stay new, and of weights that were not used. Raises UserError, and changes
    nothing, if more than heads for other classes would stay new, or if a DiCo in the file has more or fewer branches.
    """
    stored, network = read(path).of(model.splits), find(model.get_config()["model"])
    if stored.splits != model.splits:
        raise UserError(
            f"--init_from={path} is a DiCo of {stored.splits} branches and this run has {model.splits}: "
            f"give --splits={stored.splits}"
        )
    match = variables.match(model, stored.arrays)
    wrong = [name for name in match.fresh if not network.is_classifier(variables.layer_of(name))]
    if wrong:
        shape = tuple(variables.weights(model)[wrong[0]].shape)
        stands = f"is {stored.arrays[wrong[0]].shape}, expected {shape}" if wrong[0] in stored.arrays else "is missing"
        remedy = "give --splits=1, or the file of a branch" if model.splits > 1 else "give the file of that network"
        raise UserError(
            f"--init_from={path} does not fit {network.name} in {model.splits} "
            f"branch{'es' if model.splits > 1 else ''}: {len(wrong)} variables differ, e.g. {wrong[0]} {stands}; "
            f"{remedy}"
        )
    match.assign()
    return Carried(fresh=match.fresh, unused=match.unused)
