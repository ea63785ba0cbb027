"""Everything a run is told, as frozen values; every contradiction is reported at once."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from dico_tf.errors import UserError
from dico_tf.faults import faults

FORMAT = 1
DIVISIONS = ("published", "params", "macs")
# Settings that earlier versions had: {name: default}. Their files are read where they leave these at the default.
REMOVED: dict[str, Any] = {}


def option(default: Any, help: str, choices: tuple[str, ...] = ()) -> Any:
    """A field with the words its flag needs."""
    return dataclasses.field(default=default, metadata={"help": help, "choices": choices})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    task: str = option(
        "classification",
        "what is learned: the class of an image, of each pixel, or of a clip",
        ("classification", "segmentation", "video"),
    )
    dataset: str = option(
        "cifar10",
        "digits, cifar10, cifar100, any TFDS image set, or folder:DIR for your own pictures; of clips, moving",
    )
    frames: int = option(0, "T, frames of a clip; 0 = the preset's own")
    frame_rate: int = option(0, "every so manieth frame of a film is one of the clip; 0 = the preset's own")
    data_dir: str = option("", "folder that holds prepared TFDS data, of any size (default: TFDS's own)")
    image_size: int = option(
        0, "side of the square images in pixels, of the whole centre up to 64; 0 = the data set's own"
    )
    void: int = option(255, "value of a mask's pixels that have no class, of segmentation; -1 = all have one")
    classes: int = option(0, "number of classes; 0 = the data set's own")
    validation: int = option(5000, "images carved from train by seed (at most a tenth); 0 = none, needs --select=test")
    skip_unreadable: bool = option(False, "leave out image files that cannot be read, instead of stopping")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
    model: str = option("wrn_28_10", "preset of the whole network, e.g. wrn_28_10, or a .keras file of your own")
    splits: int = option(1, "S, the number of branches the whole is divided into")
    division: str = option(
        "published",
        "how the branches' widths are found: the published rule, or the whole's params or macs for S branches",
        DIVISIONS,
    )
    drop_path: float = option(-1.0, "rate at which training drops the whole's residual branches; -1 = the preset's own")
    drop_form: str = option(
        "auto",
        "whether dropped branches are computed and masked, or not computed; auto = masked up to a rate of 0.1",
        ("auto", "masked", "efficient"),
    )
    init_from: str = option(
        "", "start from the weights of this run's folder or published checkpoint (a new head where classes differ)"
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Views:
    views: tuple[str, ...] = option(("crop+flip",), "policy of every branch, or one per branch, comma separated")
    same_views: bool = option(False, "every branch sees the same view")
    mixup: float = option(0.0, "alpha of mixup's Beta distribution; 0 = off")
    cutmix: float = option(0.0, "alpha of CutMix's Beta distribution; 0 = off")
    repeated_augmentation: int = option(
        1, "times a batch shows each image, in other views; an epoch has as many steps, and reaches fewer images"
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cotraining:
    method: str = option(
        "dico",
        "way of co-training: branches, submodels of one network, or branches of which each has submodels",
        ("dico", "cosub", "dico+cosub"),
    )
    submodels: int = option(2, "of cosub, copies of every view in a batch, each dropping other residual branches")
    label_weight: float = option(
        0.5, "lambda of cosub, the labels' share of the loss; the rest is the other submodels'"
    )
    target: str = option(
        "auto",
        "what answers are compared with: one class that excludes others, or each class by itself, where mixed images "
        "have all of theirs; auto = binary of cosub, else softmax",
        ("auto", "softmax", "binary"),
    )
    training: str = option("together", "branches learn together, or each as if alone", ("together", "independent"))
    agreement: str = option("js", "agreement loss between the branches", ("js", "kl", "none"))
    agreement_weight: float = option(0.5, "weight of the agreement loss after its warm-up")
    agreement_warmup_epochs: int = option(0, "epochs over which the weight grows from 0.005")
    label_smoothing: float = option(0.0, "share of the target spread evenly over the classes")
    auxiliary_weight: float = option(
        0.5, "weight of the loss of a segmentation network's second head, which only training has; 0 = no such head"
    )
    cascade_aware: bool = option(
        False, "later branches learn most from images that those before them are unsure of, for cascades"
    )
    average: str = option("logits", "how the ensemble combines the branches", ("logits", "probs", "max"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimisation:
    batch_size: int = option(128, "images per step, over all replicas and machines")
    accumulation: int = option(1, "pieces a batch passes in, to save memory")
    epochs: int = option(300, "passes over the training images")
    max_steps: int = option(0, "stop after this many steps; 0 = off")
    optimizer: str = option("sgd", "sgd (Nesterov, coupled L2), adamw or lamb (decoupled)", ("sgd", "adamw", "lamb"))
    lr: float = option(0.1, "learning rate after the warm-up")
    momentum: float = option(0.9, "momentum of sgd")
    schedule: str = option(
        "cosine",
        "course of the learning rate after the warm-up; cosine_floor is timm's, over all epochs, with min_lr added",
        ("cosine", "cosine_floor", "step", "constant", "poly"),
    )
    warmup_epochs: int = option(
        0,
        "epochs of linear warm-up of the learning rate; -1 = the published none: a cosine that starts one epoch in",
    )
    warmup_lr: float = option(0.005, "learning rate the warm-up starts from")
    min_lr: float = option(1e-4, "floor of the cosine schedules")
    step_epochs: tuple[int, ...] = option((), "epochs at which the step schedule falls (default: 30, 60 and 90%)")
    step_factor: float = option(0.1, "factor of each fall of the step schedule")
    poly_power: float = option(0.9, "power of the poly schedule, lr (1 - share of the steps) ^ power")
    weight_decay: float = option(-1.0, "weight decay of the whole; -1 = the published one of the preset")
    weight_decay_division: str = option("none", "rule that divides weight decay", ("none", "linear", "exp"))
    clip_norm: float = option(0.0, "largest gradient norm of each branch; 0 = off")
    ema: float = option(0.0, "decay of the weights' moving average, e.g. 0.999; 0 = off")
    evaluate_ema: bool = option(False, "select, evaluate and export the averaged weights")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Machine:
    precision: str = option(
        "float32", "numbers the network computes with", ("float32", "mixed_bfloat16", "mixed_float16")
    )
    strategy: str = option("auto", "devices to train on", ("auto", "one", "mirrored", "multi_worker"))
    sync_batch_norm: bool = option(False, "batch statistics over all replicas")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    workdir: str = option("", "folder of the run; training again in it continues")
    seed: int = option(0, "seed of weights, order, views and mixing")
    save_every: int = option(0, "steps between checkpoints; 0 = at the end of each epoch only")
    keep: int = option(2, "checkpoints kept beside the best")
    select: str = option("validation", "split that chooses the best epoch", ("validation", "test"))
    evaluation_batch_size: int = option(250, "images, of clips frames, per step when evaluating")
    test_views: str = option(
        "1x1", "clips of a film x crops of a clip whose logits are averaged when a trained run is evaluated, e.g. 10x3"
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    data: Data = Data()
    network: Network = Network()
    views: Views = Views()
    cotraining: Cotraining = Cotraining()
    optimisation: Optimisation = Optimisation()
    machine: Machine = Machine()
    run: Run = Run()

    def __post_init__(self) -> None:
        found = list(faults(self))
        if found:
            raise UserError("\n".join(found))


SECTIONS: dict[str, type] = {field.name: type(field.default) for field in dataclasses.fields(Config)}


def fields(*sections: str) -> Iterator[tuple[str, dataclasses.Field]]:
    """Every (section, field), of the sections named or of all."""
    for name in sections or SECTIONS:
        for field in dataclasses.fields(SECTIONS[name]):
            yield name, field


def from_values(values: dict[str, Any]) -> Config:
    """A Config from a flat {field: value}."""
    owner = {field.name: section for section, field in fields()}
    parts: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for name, value in values.items():
        parts[owner[name]][name] = tuple(value) if isinstance(value, list) else value
    return Config(**{section: SECTIONS[section](**part) for section, part in parts.items()})


def to_values(config: Config) -> dict[str, Any]:
    """The flat {field: value} of a Config."""
    return {field.name: getattr(getattr(config, section), field.name) for section, field in fields()}


def without_removed(values: dict[str, Any], origin: str) -> dict[str, Any]:
    """Return the values without REMOVED settings. Raises UserError if one of them differs from its default."""
    used = [f"--{name}={values[name]}" for name, default in REMOVED.items() if values.get(name, default) != default]
    if used:
        raise UserError(
            f"{origin} was made by an earlier version with {', '.join(used)}, which this version no longer has: "
            "use that version, or train again without"
        )
    return {name: value for name, value in values.items() if name not in REMOVED}


def from_json(values: dict[str, Any], origin: str = "the run") -> Config:
    """The Config that a run's config.json holds under "config"; messages name its `origin`."""
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    values = without_removed(values, origin)
    unknown = sorted(set(values) - {field.name for _, field in fields()})
    if unknown:
        raise UserError(f"{origin} was made by another version: its config has {', '.join(unknown)}, unknown here")
    return from_values(values)
