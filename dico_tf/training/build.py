"""The model that a config asks for, and the one that a run's folder holds."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np

from dico_tf.config import Config, Data, Settings, from_json, to_values
from dico_tf.cotrain.dico import DiCo
from dico_tf.cotrain.losses import balanced
from dico_tf.data.source import Source
from dico_tf.divide import weight_decay
from dico_tf.divide.networks.architecture import in_float32
from dico_tf.errors import UserError
from dico_tf.files import atomic, checksums
from dico_tf.files.arrays import read_facts, read_part
from dico_tf.layers import stochastic_depth
from dico_tf.layers.tokens import fitted
from dico_tf.models import torch_weights
from dico_tf.models.menu import PRESETS, check_task, find
from dico_tf.models.torch_weights import Carried
from dico_tf.training import variables
from dico_tf.training.workdir import record


def wanted(config: Config) -> Data:
    """Which images to load: of clips, frames, rate and size are the preset's where nothing is said."""
    check_task(config.network.model, config.data.task)
    data = config.data
    if data.task != "video":
        return data
    spec = PRESETS[config.network.model].spec
    return dataclasses.replace(
        data,
        frames=data.frames or spec.frames,
        frame_rate=data.frame_rate or spec.rate,
        image_size=data.image_size or spec.crop,
    )


def facts(source: Source) -> dict[str, Any]:
    """What a run must remember of its data to be used without them."""
    films = source.splits["train"].videos
    scenes = {"frame": list(source.frame)} if source.frame else {}
    return {
        "name": source.name,
        "fingerprint": source.fingerprint,
        "image_size": source.image_size,
        **({"frames": films.count, "frame_rate": films.rate} if films else {}),
        "short_side": max(source.short_side, source.image_size),
        "class_names": list(source.class_names),
        "mean": list(source.mean),
        "std": list(source.std),
        "sizes": {name: split.size for name, split in source.splits.items()},
        **scenes,
    }


def settings(config: Config, data: dict[str, Any], reference: str | dict[str, Any] = "") -> dict[str, Any]:
    """Return the arguments of the DiCo that a config asks for, with the data's facts in place of requests.

    Args:
        reference: stands for a network of one's own, whose file may be gone.
    """
    names = {field.name for field in dataclasses.fields(Settings)}
    optimisation = config.optimisation
    decay = weight_decay.of_branch(config, data["image_size"]) if optimisation.optimizer == "sgd" else 0.0
    return {
        **{name: value for name, value in to_values(config).items() if name in names},
        "model": reference or config.network.model,
        "classes": len(data["class_names"]),
        "image_size": data["image_size"],
        "frames": data.get("frames", 0),
        "class_weights": balanced(data["class_counts"]) if "class_counts" in data else config.cotraining.class_weights,
        "weight_decay": decay,  # coupled; decoupled decay is the optimizer's
        "mean": tuple(data["mean"]),
        "std": tuple(data["std"]),
    }


def network(config: Config, data: dict[str, Any], reference: str | dict[str, Any] = "", precision: str = "") -> DiCo:
    """Return a fresh model; `precision` stands for the run's."""
    if precision == "float32":
        reference = in_float32(reference)
    return DiCo(**settings(config, data, reference), dtype=precision or config.machine.precision)


MOST_OFF = 0.05  # of a drop rate
ENOUGH_ROWS = math.ceil(1 / MOST_OFF)


def check_rows(model: DiCo, config: Config, replicas: int) -> None:
    """UserError where a pass has so few rows that the efficient form drops at quite another rate than was asked for."""
    batch_size, pieces, copies = config.optimisation.batch_size, config.step.accumulation, model.method.copies
    rows = batch_size // replicas // pieces * copies
    for layer in stochastic_depth.droppings(model.branches[0]):
        if layer.efficient and stochastic_depth.off(rows, layer.rate) > MOST_OFF + 1e-9:
            kept = stochastic_depth.computed(rows, layer.rate)
            enough = math.ceil(ENOUGH_ROWS / copies) * replicas * pieces
            raise UserError(
                f"--batch_size={batch_size} gives a pass {rows} rows, of which residual branches are computed for "
                f"{kept}: that drops {1 - kept / rows:.0%} instead of {layer.rate:.0%}; give --batch_size={enough} or "
                "more, or --drop_form=masked"
            )


@dataclasses.dataclass(frozen=True)
class TrainedRun:
    """What a run's folder says, and its selected weights."""

    workdir: Path
    config: Config
    data: dict[str, Any]
    reference: str | dict[str, Any]
    best: dict[str, Any]
    arrays: dict[str, np.ndarray]

    @property
    def short_side(self) -> int:
        """Pixels to which pictures are resized before the centre is cut out; older runs had no margin."""
        return self.data.get("short_side", self.data["image_size"])

    @property
    def checksums(self) -> dict[str, str]:
        """sha256 of each branch's weights, by which a committee knows its members."""
        return checksums.of_branches(self.arrays)

    def check_images(self, takers: str, remedy: str) -> None:
        """UserError where the run answers other than its takers do, with one class an image."""
        task = self.config.data.task
        if task != "classification":
            raise UserError(f"{self.workdir} is a {task} run, and {takers} answer with one class an image: {remedy}")

    def network(self, precision: str = "") -> DiCo:
        model = network(self.config, self.data, self.reference, precision)
        variables.assign(variables.weights(model), self.arrays, f"{self.workdir}/best")
        return model


def trained_run(workdir: str | Path) -> TrainedRun:
    """UserError where there is no run, or none that has finished an epoch."""
    workdir = Path(workdir)
    said = record(workdir)
    best = workdir / "best"
    if not atomic.current(best).exists():
        raise UserError(f"{workdir} has no best/ yet: its training has not finished an epoch")
    selected = read_facts(best)
    config, arrays = from_json(said["config"], str(workdir)), read_part(best, "weights")
    return TrainedRun(workdir, config, said["data"], said.get("network", ""), selected, arrays)


_DRAWN = "/seed_generator_state"  # of no weight: what another run would have drawn next


def start_from(model: DiCo, origin: str | Path) -> Carried:
    """The weights of a run's folder or of a PyTorch checkpoint; only heads may stay fresh."""
    if torch_weights.holds_weights(origin):
        if find(model.get_config()["model"]).task == "video":
            raise UserError(
                f"--init_from={origin}: PyTorch weights are known of networks of images; give a run's folder"
            )
        return torch_weights.load(model, origin, classes="any")
    return _start_from_run(model, origin)


def _start_from_run(model: DiCo, workdir: str | Path) -> Carried:
    """Another run's selected weights where name and shape agree; only heads may stay fresh.

    Of a run of another task this is the backbone alone: what the network has besides, and what only the run had, are
    heads. Tables of places are resized. What is drawn next is this run's own, by its seed.
    """
    run = trained_run(workdir)
    before, network = run.config.network, find(model.get_config()["model"])
    named = {name: variable for name, variable in variables.weights(model).items() if not name.endswith(_DRAWN)}
    arrays = {name: fitted(variable, run.arrays[name]) for name, variable in named.items() if name in run.arrays}
    fitting = {name: array for name, array in arrays.items() if array.shape == tuple(named[name].shape)}
    fresh = [name for name in named if name not in fitting]
    backbone = run.config.data.task != network.task
    heads = network.heads if backbone else ("logits", "auxiliary")
    wrong = [name for name in fresh if not name.split("/")[1].startswith(heads)]
    if wrong or before.splits != model.splits:
        differ = f": {len(wrong)} variables differ, e.g. {wrong[0]}" if wrong else f" {model.splits}"
        same = f"the same --model and --splits{network.classifier and f', or a run of --model={network.classifier}'}"
        raise UserError(
            f"--init_from={workdir} is {before.model} in {before.splits} branches, which does not fit{differ}; "
            f"give {same}"
        )
    for name, array in fitting.items():
        named[name].assign(array)
    left = [name for name in run.arrays if name not in fitting and not name.endswith(_DRAWN)]
    return Carried(fresh=fresh, unused=left if backbone else [])
