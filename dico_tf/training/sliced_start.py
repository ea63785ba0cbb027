"""Start the branches of a divided network from parts of a trained whole's channels."""

from collections.abc import Collection, Sequence
from pathlib import Path

import keras
import numpy as np

from dico_tf.config import from_json
from dico_tf.cotrain.dico import DiCo
from dico_tf.divide.networks.channel_graph import channel_graph
from dico_tf.divide.networks.channel_labels import weight_name
from dico_tf.divide.networks.slices import slices
from dico_tf.errors import UserError
from dico_tf.models import checkpoints, pretrained, torch_weights
from dico_tf.models.torch_weights import Carried
from dico_tf.training import keras_weights, variables
from dico_tf.training.build import start_from
from dico_tf.training.workdir import record

PAGE = "docs/training.md"


def start_from_slices(model: DiCo, origin: str | Path) -> Carried:
    """Give each branch a part of the channels of a trained whole.

    The running statistics of batch normalisation are cut, too; recompute them before training. Only heads for other
    classes stay new. If the whole is a classifier and the branches are segmentation networks, all layers that the
    classifier lacks stay new, too. Returns the names of variables that stay new, and of weights that were not used.

    Args:
        origin: the whole, as in `start_from`: a run's folder, a .keras file, a PyTorch checkpoint or "auto".

    Raises:
        UserError: if `origin` holds several branches or another network, or if its channels cannot be followed.
    """
    if (count := _branches_in(origin)) != 1:
        raise UserError(
            f"--init=slices: --init_from={origin} has {count} branches; expected an undivided network, such as a run "
            "with --splits=1"
        )
    whole = undivided(model)
    carried = start_from(whole, origin)
    new_layers = {variables.layer_of(name) for name in carried.fresh}
    fresh = assign_slices(whole.learners[0], model.learners, f"--init_from={origin}", new_layers)
    unused = [name for name in carried.unused if variables.layer_of(name) not in new_layers]  # the old head is implied
    return Carried(fresh=fresh, unused=unused)


def undivided(model: DiCo) -> DiCo:
    """Return the whole network of which the model's branches are a division, with new weights."""
    settings = model.settings
    names = ("classes", "image_size", "frames", "mean", "std", "auxiliary_weight")
    return DiCo(settings.model, **{name: getattr(settings, name) for name in names}, views="none", dtype="float32")


def _branches_in(origin: str | Path) -> int:
    """Return the number of branches whose weights a run, a .keras file or a checkpoint holds."""
    if origin == pretrained.AUTO:
        return 1
    if keras_weights.is_file(origin):
        return keras_weights.read(origin).splits or 1
    if torch_weights.holds_weights(origin):
        return len(checkpoints.read(origin))
    return from_json(record(origin)["config"], str(origin)).network.splits


def assign_slices(
    whole: keras.Model, branches: Sequence[keras.Model], origin: str, new_layers: Collection[str] = ()
) -> list[str]:
    """Assign parts of the channels of a network to its branches; return the names of variables that stay new.

    Args:
        origin: names the whole in errors.
        new_layers: layers of the whole whose weights mean nothing, such as a head for other classes. They stay new in
            the branches, and do not count in the importance of channels.

    Raises:
        UserError: if channels cannot be followed, or if those of a branch are no part of the whole's.
    """
    variables_of_whole = _weights(whole)
    arrays = {
        name: np.ones(v.shape, np.float32) if name.split("/")[0] in new_layers else np.asarray(v.numpy())
        for name, v in variables_of_whole.items()
    }
    try:
        graph = channel_graph(whole)
        parts = slices(graph, channel_graph(branches[0], graph), arrays, len(branches))
    except UserError as error:
        raise UserError(
            f"{origin} cannot be divided into slices: {error}; leave out --init=slices, see {PAGE}"
        ) from error
    fresh = []
    for s, (branch, part) in enumerate(zip(branches, parts, strict=True)):
        for name, variable in _weights(branch).items():
            if name not in part or name.split("/")[0] in new_layers:
                fresh.append(f"branch_{s}/{name}")
            else:
                variable.assign(part[name].reshape(variable.shape))
    return fresh


def _weights(network: keras.Model) -> dict[str, keras.Variable]:
    """Return the variables of a network by name, without the state of random numbers."""
    named = {weight_name(layer, v): v for layer in network.layers for v in layer.variables}
    return {name: v for name, v in named.items() if not name.endswith("seed_generator_state")}
