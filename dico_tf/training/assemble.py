"""The model that a config asks for, and the one that a run's folder holds."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dico_tf.config import Config, Data, from_json
from dico_tf.contradictions import target
from dico_tf.cotrain.dico import DiCo
from dico_tf.cotrain.pixel_submodels import PixelSubmodels
from dico_tf.cotrain.segmenter import Segmenter
from dico_tf.cotrain.submodels import Submodels
from dico_tf.data.source import Source
from dico_tf.divide import weight_decay
from dico_tf.divide.networks.blueprint import in_float32
from dico_tf.errors import UserError
from dico_tf.files import atomic, checksums
from dico_tf.files.arrays import read_facts, read_part
from dico_tf.layers import stochastic_depth
from dico_tf.layers.tokens import fitted
from dico_tf.models import torch_weights
from dico_tf.models.menu import PRESETS, check_task, find
from dico_tf.models.torch_weights import Carried
from dico_tf.training import state
from dico_tf.training.workdir import record

Own = Callable[[Config, dict[str, Any]], dict[str, Any]]  # what one class alone is told, of the config and the facts
LEARNERS: dict[str, tuple[type[DiCo], Own]] = {
    "classification": (DiCo, lambda config, data: {}),
    "segmentation": (Segmenter, lambda config, data: {"auxiliary_weight": config.cotraining.auxiliary_weight}),
    "video": (DiCo, lambda config, data: {"frames": data.get("frames", 0)}),
}


def learning(config: Config) -> tuple[type[DiCo], Own]:
    """The class of a task, or of submodels, and what it alone is told."""
    learner, own = LEARNERS[config.data.task]
    if "cosub" not in config.cotraining.method:
        return learner, own
    asked = {"submodels": config.cotraining.submodels, "label_weight": config.cotraining.label_weight}
    learner = PixelSubmodels if learner is Segmenter else Submodels
    return learner, lambda config, data: {**own(config, data), **asked}


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
    films = source.splits["train"].films
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


def network(config: Config, data: dict[str, Any], reference: str | dict[str, Any] = "", precision: str = "") -> DiCo:
    """A fresh model; coupled decay is the model's, decoupled the optimizer's.

    `reference` stands for a network of one's own, whose file may be gone; `precision` for the run's.
    """
    if precision == "float32":
        reference = in_float32(reference)
    views, cotraining, optimisation = config.views, config.cotraining, config.optimisation
    learner, own = learning(config)
    return learner(
        reference or config.network.model,
        config.network.splits,
        division=config.network.division,
        classes=len(data["class_names"]),
        image_size=data["image_size"],
        views=views.views,
        same_views=views.same_views,
        mixup=views.mixup,
        cutmix=views.cutmix,
        training=cotraining.training,
        agreement=cotraining.agreement,
        agreement_weight=cotraining.agreement_weight,
        agreement_warmup_epochs=cotraining.agreement_warmup_epochs,
        target=target(config),
        label_smoothing=cotraining.label_smoothing,
        drop_path=config.network.drop_path,
        drop_form=config.network.drop_form,
        cascade_aware=cotraining.cascade_aware,
        average=cotraining.average,
        weight_decay=weight_decay.of_branch(config, data["image_size"]) if optimisation.optimizer == "sgd" else 0.0,
        clip_norm=optimisation.clip_norm,
        accumulation=optimisation.accumulation,
        sync_batch_norm=config.machine.sync_batch_norm,
        mean=data["mean"],
        std=data["std"],
        seed=config.run.seed,
        dtype=precision or config.machine.precision,
        **own(config, data),
    )


MOST_OFF = 0.05  # of a drop rate
ENOUGH_ROWS = math.ceil(1 / MOST_OFF)


def check_rows(model: DiCo, config: Config, replicas: int) -> None:
    """UserError where a pass has so few rows that the efficient form drops at quite another rate than was asked for."""
    o, copies = config.optimisation, getattr(model, "submodels", 1)
    rows = o.batch_size // replicas // o.accumulation * copies
    for layer in stochastic_depth.droppings(model.branches[0]):
        if layer.efficient and stochastic_depth.off(rows, layer.rate) > MOST_OFF + 1e-9:
            kept = stochastic_depth.computed(rows, layer.rate)
            enough = math.ceil(ENOUGH_ROWS / copies) * replicas * o.accumulation
            raise UserError(
                f"--batch_size={o.batch_size} gives a pass {rows} rows, of which residual branches are computed for "
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
        state.assign(state.weights(model), self.arrays, f"{self.workdir}/best")
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
    named = {name: variable for name, variable in state.weights(model).items() if not name.endswith(_DRAWN)}
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
