"""Build the model of a run's config, load a trained run, and start from the weights of another model."""

import dataclasses
import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dico_tf.config import COUPLED_DECAY, Config, Data, Settings, from_json, to_values
from dico_tf.cotrain.dico import DiCo
from dico_tf.cotrain.losses import balanced
from dico_tf.data.source import Source
from dico_tf.divide.networks.architecture import in_float32
from dico_tf.errors import UserError
from dico_tf.files import atomic, checksums
from dico_tf.files.arrays import read_facts, read_part
from dico_tf.layers import stochastic_depth
from dico_tf.models import pretrained, torch_weights
from dico_tf.models.presets import PRESETS, branch_weight_decay, check_task, find
from dico_tf.models.torch_weights import Carried
from dico_tf.training import keras_weights, variables
from dico_tf.training.workdir import record


def data_options(config: Config, reference: str | dict[str, Any] = "") -> Data:
    """Return the data settings of a run, in which values of 0 are replaced as far as the model gives them.

    A video preset gives frames, frame rate and image size. With --branches, the image size is the largest branch's.
    Raises UserError if the model is not one for the task.

    Args:
        reference: the saved description of the network; needed with --branches.
    """
    data = config.data
    if config.branch_list.branches:
        return dataclasses.replace(data, image_size=data.image_size or find(reference).image_size)
    check_task(config.network.model, config.data.task)
    if data.task != "video":
        return data
    spec = PRESETS[config.network.model].spec
    return dataclasses.replace(
        data,
        frames=data.frames or spec.frames,
        frame_rate=data.frame_rate or spec.rate,
        image_size=data.image_size or spec.crop,
    )


def facts(source: Source, network: Any) -> dict[str, Any]:
    """Return the facts about the data that a run saves, so that it can be used without the data.

    Args:
        network: preset or custom network of the run; one with its own normalisation replaces mean and std of the data.
    """
    videos = source.splits["train"].videos
    pixels = network.normalisation or source
    scenes = {"frame": list(source.frame)} if source.frame else {}
    return {
        "name": source.name,
        "fingerprint": source.fingerprint,
        "image_size": source.image_size,
        **({"frames": videos.count, "frame_rate": videos.rate} if videos else {}),
        "short_side": max(source.short_side, source.image_size),
        "class_names": list(source.class_names),
        "mean": list(pixels.mean),
        "std": list(pixels.std),
        "sizes": {name: split.size for name, split in source.splits.items()},
        **scenes,
    }


def settings(config: Config, data: dict[str, Any], reference: str | dict[str, Any] = "") -> dict[str, Any]:
    """Return the arguments of a run's DiCo.

    Args:
        data: the facts about the data, see `facts`. They give classes, image size, frames, mean and deviation.
        reference: the saved description of a network, for a run whose --model is a file that may be gone.
    """
    names = {field.name for field in dataclasses.fields(Settings)}
    optimisation = config.optimisation
    decay = branch_weight_decay(config, data["image_size"]) if optimisation.optimizer in COUPLED_DECAY else 0.0
    return {
        **{name: value for name, value in to_values(config).items() if name in names},
        "model": reference or config.network.model,
        "classes": len(data["class_names"]),
        "image_size": data["image_size"],
        "frames": data.get("frames", 0),
        "class_weights": balanced(data["class_counts"]) if "class_counts" in data else config.cotraining.class_weights,
        "weight_decay": decay,  # coupled; decoupled weight decay is in the optimizer
        "mean": tuple(data["mean"]),
        "std": tuple(data["std"]),
        **{name: tuple(data.get(name, ())) for name in OWNER_FROZEN},
    }


OWNER_FROZEN = ("frozen_layers", "inference_layers")  # settings that a run takes from trained networks, and saves


def owner_frozen(
    config: Config, folder: Path | None, branches: Mapping[str, Any] | None = None
) -> dict[str, list[str]]:
    """Return the layers that are frozen, or always infer, in --init_from or --branches, as settings of DiCo.

    The result is {} if there are none, and with --init=slices, whose layers all learn.

    Args:
        folder: the run to be continued, which has saved them; None = a new run.
        branches: the layers that are frozen in the networks of --branches, as settings of DiCo.
    """
    if folder:
        return _frozen(record(folder)["data"])
    if config.run.init == "slices":
        return {}  # a slice alone is not what was trained, and so all of it learns
    return _frozen(branches) if branches else frozen_in(config.run.init_from, config.network.splits)


def frozen_in(origin: str, splits: int) -> dict[str, list[str]]:
    """Return the layers that are frozen, or always infer, in a network, as settings of a DiCo; {} if there are none.

    Args:
        origin: the network, as a value of --init_from; PyTorch checkpoints have no such layers.
        splits: number of branches of the DiCo; the layers of a single network are those of every branch.
    """
    if origin and keras_weights.is_file(origin):
        stored = keras_weights.read(origin).of(splits)
        return _frozen({"frozen_layers": stored.frozen, "inference_layers": stored.inference})
    if origin in ("", pretrained.AUTO) or torch_weights.holds_weights(origin):
        return {}
    return _frozen(record(origin)["data"])


def _frozen(values: Mapping[str, Any]) -> dict[str, list[str]]:
    return {name: values[name] for name in OWNER_FROZEN if values.get(name)}


def network(config: Config, data: dict[str, Any], reference: str | dict[str, Any] = "", precision: str = "") -> DiCo:
    """Build a run's model with new weights; for the arguments see `settings`.

    Args:
        precision: replaces the precision of the config, unless it is empty.
    """
    if precision == "float32":
        reference = in_float32(reference)
    return DiCo(**settings(config, data, reference), dtype=precision or config.machine.precision)


RATE_TOLERANCE = 0.05  # of drop rates
ENOUGH_ROWS = math.ceil(1 / RATE_TOLERANCE)


def check_rows(model: DiCo, config: Config, replicas: int) -> None:
    """Raise UserError if the efficient drop form would drop a share of rows more than 0.05 off the rate.

    It computes residual branches for a whole number of rows, so this happens with small batches.
    """
    batch_size, pieces, copies = config.optimisation.batch_size, config.step.accumulation, model.method.copies
    rows = batch_size // replicas // pieces * copies
    for layer in itertools.chain(*map(stochastic_depth.droppings, model.branches)):
        if layer.efficient and stochastic_depth.rate_error(rows, layer.rate) > RATE_TOLERANCE + 1e-9:
            computed = stochastic_depth.computed(rows, layer.rate)
            enough = math.ceil(ENOUGH_ROWS / copies) * replicas * pieces
            raise UserError(
                f"--batch_size={batch_size} means {rows} rows at once, and each residual branch is computed for "
                f"{computed} of them: that drops {1 - computed / rows:.0%} instead of {layer.rate:.0%}; give "
                f"--batch_size={enough} or more, or --drop_form=masked"
            )


@dataclasses.dataclass(frozen=True)
class TrainedRun:
    """A trained run, loaded from its folder.

    Attributes:
        data: facts about the images, see `facts`.
        reference: name or description of the network; empty in runs of old versions.
        best: facts about the best epoch, such as its score.
        arrays: the best weights by the names of `variables.weights`.
    """

    workdir: Path
    config: Config
    data: dict[str, Any]
    reference: str | dict[str, Any]
    best: dict[str, Any]
    arrays: dict[str, np.ndarray]

    @property
    def short_side(self) -> int:
        """Pixels to which an image's short side is resized before its centre is cut out."""
        return self.data.get("short_side", self.data["image_size"])

    @property
    def checksums(self) -> dict[str, str]:
        """The sha256 of each branch's weights, by branch; a committee recognises its members by them."""
        return checksums.of_branches(self.arrays)

    def check_images(self, users: str, remedy: str) -> None:
        """Raise UserError if the run does not classify images.

        Args:
            users: what needs such a run, in the plural, for the message.
            remedy: end of the message.
        """
        task = self.config.data.task
        if task != "classification":
            raise UserError(f"{self.workdir} is a {task} run, but {users} need one that classifies images: {remedy}")

    def network(self, precision: str = "") -> DiCo:
        """Build the run's model with its best weights; `precision` replaces that of the config, unless it is empty."""
        model = network(self.config, self.data, self.reference, precision)
        variables.assign(variables.weights(model), self.arrays, f"{self.workdir}/best")
        return model


def trained_run(workdir: str | Path) -> TrainedRun:
    """Load a trained run from its folder. Raises UserError if it is no run, or if no epoch was evaluated yet."""
    workdir = Path(workdir)
    saved = record(workdir)
    best = workdir / "best"
    if not atomic.current(best).exists():
        raise UserError(f"{workdir} has no best/ yet: train until an epoch is evaluated (see --evaluate_every)")
    selected = read_facts(best)
    config, arrays = from_json(saved["config"], str(workdir)), read_part(best, "weights")
    return TrainedRun(workdir, config, saved["data"], saved.get("network", ""), selected, arrays)


def start_from(model: DiCo, origin: str | Path) -> Carried:
    """Load the weights of a run's folder, a .keras file or a PyTorch checkpoint into a model; only heads may stay new.

    Returns the names of variables that stay new, and of weights that were not used. Raises UserError if more than heads
    would stay new, or if a run or a DiCo has another number of branches than the model.

    Args:
        origin: a path, or "auto" for the published weights in an installed package.
    """
    if keras_weights.is_file(origin):
        return keras_weights.load(model, origin)
    network = find(model.get_config()["model"])
    if origin == pretrained.AUTO:
        try:
            origin = pretrained.weights_file(network)
        except UserError as error:
            raise UserError(f"--init_from={origin}: {error}") from None
    if torch_weights.holds_weights(origin):
        if network.task == "video":
            raise UserError(
                f"--init_from={origin}: PyTorch weights are supported for image networks only; give a run's folder"
            )
        return torch_weights.load(model, origin, classes="any")
    return _start_from_run(model, origin)


def _start_from_run(model: DiCo, workdir: str | Path) -> Carried:
    """Load the best weights of another run where names and shapes agree.

    From a run of another task only the backbone is taken; everything else counts as heads. Raises UserError if more
    than heads differ, or if the run has another number of branches.
    """
    run = trained_run(workdir)
    before, network = run.config.network, find(model.get_config()["model"])
    match = variables.match(model, run.arrays)
    backbone = run.config.data.task != network.task
    is_new = network.is_head if backbone else network.is_classifier
    wrong = [name for name in match.fresh if not is_new(variables.layer_of(name))]
    if wrong or before.splits != model.splits:
        differ = f"{len(wrong)} variables differ, e.g. {wrong[0]}" if wrong else f"this run has {model.splits} branches"
        same = "the same --model" + ("" if before.splits == model.splits == 1 else ", --splits and --division")
        other = network.classifier and f", or a run of --model={network.classifier}"
        raise UserError(
            f"--init_from={workdir} is {before.model} in {before.splits} branches, which does not fit: {differ}; "
            f"give {same}{other}"
        )
    match.assign()
    return Carried(fresh=match.fresh, unused=match.unused if backbone else [])
