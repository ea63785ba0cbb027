"""All settings of a run (`Config`) and of a model (`Settings`), and conversion of `Config` from and to flat values."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from dico_tf.config import validation
from dico_tf.config.bounds import option
from dico_tf.config.run_schema import Data, MachineOptions, OptimisationOptions, RunOptions
from dico_tf.config.schema import (
    BranchOptions,
    CotrainingOptions,
    FinetuningOptions,
    NetworkOptions,
    StepOptions,
    ViewOptions,
)
from dico_tf.errors import UserError

# Settings that earlier versions had, with their defaults. A saved config that has a default is still read.
REMOVED: dict[str, Any] = {"cascade_aware": False}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """All settings of a run. Raises one UserError that names every fault.

    With --branches, `network.splits` is their number.
    """

    data: Data = dataclasses.field(default=Data())
    network: NetworkOptions = dataclasses.field(default=NetworkOptions())
    branch_list: BranchOptions = dataclasses.field(default=BranchOptions())
    views: ViewOptions = dataclasses.field(default=ViewOptions())
    cotraining: CotrainingOptions = dataclasses.field(default=CotrainingOptions())
    step: StepOptions = dataclasses.field(default=StepOptions())
    finetuning: FinetuningOptions = dataclasses.field(default=FinetuningOptions())
    optimisation: OptimisationOptions = dataclasses.field(default=OptimisationOptions())
    machine: MachineOptions = dataclasses.field(default=MachineOptions())
    run: RunOptions = dataclasses.field(default=RunOptions())

    def __post_init__(self) -> None:
        count = len(self.branch_list.branches)
        if count and self.network.splits == 1:
            object.__setattr__(self, "network", dataclasses.replace(self.network, splits=count))
        pairs = [(field, getattr(getattr(self, section), field.name)) for section, field in fields()]
        faults = validation.of_run(pairs)
        if faults:
            raise UserError("\n".join(faults))

    @property
    def title(self) -> str:
        """The network that is trained, as --model names it, or the networks of --branches, joined by "+"."""
        return "+".join(self.branch_list.branches) or self.network.model


SECTIONS: dict[str, type] = {field.name: type(field.default) for field in dataclasses.fields(Config)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(NetworkOptions, ViewOptions, CotrainingOptions, StepOptions, FinetuningOptions):
    """All settings of a `DiCo`: flags that reach the model, and values that a run takes from its data or computes."""

    model: str | dict[str, Any] = option("", "a preset's name, a .keras file, or the saved description of a network")
    classes: int = option(0, "number of classes", at_least=1)
    image_size: int = option(32, "side of the square images in pixels", at_least=4)
    frames: int = option(0, "frames of a clip; 0 = the preset's own", at_least=0, task="video")
    weight_decay: float = option(0.0, "coupled weight decay (L2) of a branch", at_least=0)
    mean: tuple[float, ...] = option((0.485, 0.456, 0.406), "mean of RGB in 0..1, for normalisation")
    std: tuple[float, ...] = option((0.229, 0.224, 0.225), "standard deviation of RGB in 0..1, for normalisation")
    seed: int = option(0, "seed of views and mixing", at_least=0, below=2**31)
    frozen_layers: tuple[str, ...] = option(
        (), "layers that never learn, e.g. branch_0/conv_1; heads are no such layers"
    )
    inference_layers: tuple[str, ...] = option(
        (), "layers that training computes as inference does, e.g. branch_0/norm_1; their weights learn"
    )

    def check(self, task: str) -> None:
        """Raise one UserError that names every fault of these settings for a network of this task."""
        pairs = [(field, getattr(self, field.name)) for field in dataclasses.fields(self)]
        faults = validation.of_model(pairs, task)
        if faults:
            raise UserError("\n".join(faults))

    @property
    def frozen_epochs(self) -> int:
        """Number of epochs in which the backbone is frozen; 0 if `freeze` is not a number."""
        return validation.frozen_epochs(self.freeze) or 0

    def target_for(self, task: str) -> str:
        """Return "softmax" or "binary"; `target="auto"` depends on the task and the method."""
        return validation.target(self, task)


def fields(*sections: str) -> Iterator[tuple[str, dataclasses.Field]]:
    """Yield (section name, field) for every field of these sections, or of all sections."""
    for name in sections or SECTIONS:
        for field in dataclasses.fields(SECTIONS[name]):
            yield name, field


def from_values(values: Mapping[str, Any]) -> Config:
    """Build a Config from a flat {field: value}. Missing fields have their defaults.

    Raises KeyError for an unknown field, and UserError for values that are not allowed.
    """
    owner = {field.name: section for section, field in fields()}
    parts: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for name, value in values.items():
        parts[owner[name]][name] = tuple(value) if isinstance(value, list) else value
    return Config(**{section: SECTIONS[section](**part) for section, part in parts.items()})


def to_values(config: Config) -> dict[str, Any]:
    """Return the flat {field: value} of a Config."""
    return {field.name: getattr(getattr(config, section), field.name) for section, field in fields()}


def without_removed(values: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """Return the values without the settings in `REMOVED`.

    Args:
        origin: what the values belong to, for messages.

    Raises:
        UserError: a removed setting is not at its default, so this version cannot do the same.
    """
    used = [f"--{name}={values[name]}" for name, default in REMOVED.items() if values.get(name, default) != default]
    if used:
        raise UserError(
            f"{origin} was made by an earlier version with {', '.join(used)}, which this version no longer has: "
            "use that version, or train again without it"
        )
    return {name: value for name, value in values.items() if name not in REMOVED}


def from_json(values: Mapping[str, Any], origin: str = "the run") -> Config:
    """Build a Config from the "config" of a run's config.json; `origin` names the run in messages.

    Raises UserError for values that this version does not know or allow.
    """
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    values = without_removed(values, origin)
    unknown = sorted(set(values) - {field.name for _, field in fields()})
    if unknown:
        raise UserError(
            f"{origin} was made by another version: its config has unknown settings {', '.join(unknown)}; "
            "use that version"
        )
    return from_values(values)


def identity(config: Config) -> dict[str, Any]:
    """Return the settings that identify a run: they must stay the same when it continues. Defaults are left out."""
    return {
        field.name: value
        for section, field in fields()
        if (value := getattr(getattr(config, section), field.name)) != field.default and not field.metadata["free"]
    }


def clips_and_crops(text: str) -> tuple[int, int]:
    """Parse --test_views: "10x3" gives (10, 3), 10 clips of a video and 3 crops of a clip; "10" gives (10, 1).

    Raises UserError for any other text; crops are 1 or 3.
    """
    fault = validation.clips_and_crops_fault(text)
    if fault:
        raise UserError(fault)
    clips, _, crops = text.partition("x")
    return int(clips), int(crops or 1)
