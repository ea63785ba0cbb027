"""Start the branches of a divided network from parts of a trained whole's channels."""

from pathlib import Path

import keras
import numpy as np

from dico_tf.cotrain.dico import DiCo
from dico_tf.divide.networks.channel_graph import channel_graph
from dico_tf.divide.networks.channel_labels import weight_name
from dico_tf.divide.networks.slices import slices
from dico_tf.errors import UserError
from dico_tf.models.torch_weights import Carried
from dico_tf.training.build import TrainedRun, trained_run


def start_from_slices(model: DiCo, origin: str | Path) -> Carried:
    """Give each branch a part of the channels of a trained whole; return the names of variables that stay new.

    The running statistics of batch normalisation are cut, too; recompute them before training.

    Args:
        origin: folder of a trained run with --splits=1 of the same network.

    Raises:
        UserError: if it is no such run, or if its channels cannot be divided among the branches.
    """
    if not Path(origin).is_dir():
        raise UserError(f"--init=slices: expected the folder of a run with --splits=1, got --init_from={origin}")
    run = trained_run(origin)
    _check(model, run, origin)
    whole = run.network("float32").branches[0]
    classes = len(run.data["class_names"]) != model.get_config()["classes"]
    return assign_slices(whole, model.branches, f"--init_from={origin}", classes)


def assign_slices(whole: keras.Model, branches: list[keras.Model], origin: str, new_head: bool = False) -> Carried:
    """Assign parts of the channels of a network to its branches; see `slices`.

    Args:
        origin: names the whole in errors.
        new_head: the head starts anew.
    """
    graph, named = channel_graph(whole), _weights(whole)
    arrays = {name: np.asarray(named[name].numpy()) for name in graph.layouts}
    try:
        parts = slices(graph, channel_graph(branches[0], graph), arrays, len(branches), new_head)
    except UserError as error:
        raise UserError(f"{origin} cannot be divided into slices: {error}; leave out --init=slices") from error
    fresh = []
    for s, (branch, part) in enumerate(zip(branches, parts, strict=True)):
        variables = {name: v for name, v in _weights(branch).items() if not name.endswith("seed_generator_state")}
        for name, array in part.items():
            if array.size != variables[name].numpy().size:
                raise UserError(
                    f"{origin} cannot be divided into slices: {name} is {array.shape}, expected "
                    f"{tuple(variables[name].shape)}; give the same --image_size"
                )
        for name, variable in variables.items():
            if name in part:
                variable.assign(part[name].reshape(variable.shape))
            else:
                fresh.append(f"branch_{s}/{name}")
    return Carried(fresh=fresh, unused=[])


def _check(model: DiCo, run: TrainedRun, origin: str | Path) -> None:
    """Raise UserError unless the run trained the whole of this model's network."""
    before, config = run.config.network, model.get_config()
    if before.splits != 1:
        raise UserError(
            f"--init=slices: --init_from={origin} has {before.splits} branches; expected a run with --splits=1"
        )
    reference = run.reference or before.model
    if reference != config["model"]:
        now = config["model"] if isinstance(config["model"], str) else config["model"]["name"]
        raise UserError(
            f"--init=slices: --init_from={origin} is a run of {before.model}, not of {now}; expected the same --model"
        )


def _weights(network: keras.Model) -> dict[str, keras.Variable]:
    return {weight_name(layer, v): v for layer in network.layers for v in layer.variables}
