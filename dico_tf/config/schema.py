"""Settings as frozen dataclasses: a flag is one field here, with its help text and its bounds.

The sections Network, Views, Cotraining and Step reach the model: every field in them is an argument of `DiCo`.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from dico_tf.config import validation
from dico_tf.config.bounds import option
from dico_tf.errors import UserError

FORMAT = 1
DIVISIONS = ("published", "params", "macs")
# --task and --method -> the class in dico_tf/cotrain/tasks and methods, imported when a model is built
TASKS = {
    "classification": "classification.Classification",
    "segmentation": "segmentation.Segmentation",
    "video": "classification.Classification",
}
METHODS = {
    "dico": "dico.Dico",
    "cosub": "cosub.Cosub",
    "dico+cosub": "cosub.Cosub",
    "distill": "distill.Distill",
}
SUBMODEL_METHODS = ("cosub", "dico+cosub")
# Settings that earlier versions had, with the default at which they are ignored on reading.
REMOVED: dict[str, Any] = {"cascade_aware": False}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    task: str = option(
        "classification",
        "what is learned: the class of an image, of each pixel, or of a video clip",
        tuple(TASKS),
    )
    dataset: str = option(
        "cifar10",
        "digits, cifar10, cifar100, any TFDS image set, or folder:DIR for your own images; for clips also moving",
    )
    frames: int = option(0, "T, frames of a clip; 0 = the preset's own", at_least=0, task="video")
    frame_rate: int = option(0, "use every n-th frame of a film; 0 = the preset's own", at_least=0, task="video")
    data_dir: str = option("", "folder that holds prepared TFDS data, of any size (default: TFDS's own)", free=True)
    image_size: int = option(
        0,
        "side of the square images in pixels, of the whole centre up to 64; 0 = the data set's own",
        at_least=4,
        special={0: "the data set's own"},
    )
    void: int = option(
        255,
        "value of mask pixels that have no class; -1 = every pixel has a class",
        at_least=-1,
        at_most=255,
        task="segmentation",
    )
    classes: int = option(0, "number of classes; 0 = the data set's own", at_least=0)
    validation: int = option(
        5000, "images carved from train by seed (at most a tenth); 0 = none, needs --select=test", at_least=0
    )
    skip_unreadable: bool = option(False, "leave out image files that cannot be read, instead of stopping")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
    model: str = option("wrn_28_10", "preset of the whole network, e.g. wrn_28_10, or a .keras file of your own")
    splits: int = option(1, "S, the number of branches the whole is divided into", at_least=1)
    division: str = option(
        "published",
        "how the branches' widths are found: the published rule, or a budget of the whole's params or macs",
        DIVISIONS,
    )
    drop_path: float = option(
        -1.0,
        "rate at which training drops the whole's residual branches; -1 = the preset's own",
        at_least=0,
        below=1,
        special={-1: "the preset's own"},
    )
    drop_form: str = option(
        "auto",
        "whether dropped branches are computed and masked, or not computed; auto = masked up to a rate of 0.1",
        ("auto", "masked", "efficient"),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Views:
    views: tuple[str, ...] = option(("crop+flip",), "policy of every branch, or one per branch, comma separated")
    same_views: bool = option(False, "every branch sees the same view")
    mixup: float = option(0.0, "alpha of mixup's Beta distribution; 0 = off", at_least=0)
    cutmix: float = option(0.0, "alpha of CutMix's Beta distribution; 0 = off", at_least=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cotraining:
    method: str = option(
        "dico",
        "dico: branches that agree; cosub: submodels of one network teach each other; dico+cosub: both; distill: "
        "branches that agree and also learn the answers of --teacher",
        tuple(METHODS),
    )
    submodels: int = option(
        2,
        "copies of every view in a batch, each of which drops other residual branches",
        at_least=2,
        methods=SUBMODEL_METHODS,
    )
    label_weight: float = option(
        0.5,
        "share of the labels in the loss; the rest is the answers of the other submodels, or of the teacher",
        at_least=0,
        at_most=1,
        methods=(*SUBMODEL_METHODS, "distill"),
    )
    teacher: str = option(
        "",
        "model whose answers the branches learn: a run's folder, a committee.json, or any member of a committee",
        methods=("distill",),
        free=True,  # its place may change; the run keeps a checksum of its weights
    )
    teacher_views: str = option(
        "same",
        "images the teacher answers: same = the branch's own view, computed in each step; clean = the unchanged image, "
        "computed once and kept on disk",
        ("same", "clean"),
        methods=("distill",),
    )
    temperature: float = option(
        4.0, "temperature that softens the teacher's and the branches' answers", above=0, methods=("distill",)
    )
    target: str = option(
        "auto",
        "softmax: classes exclude each other; binary: each class is learned by itself, and mixed images have all of "
        "theirs; auto = binary for cosub, else softmax",
        ("auto", "softmax", "binary"),
    )
    training: str = option("together", "branches learn together, or each as if alone", ("together", "independent"))
    agreement: str = option("js", "agreement loss between the branches", ("js", "kl", "none"))
    agreement_weight: float = option(0.5, "weight of the agreement loss after its warm-up", at_least=0)
    agreement_warmup_epochs: int = option(0, "epochs over which the weight grows from 0.005", at_least=0)
    label_smoothing: float = option(0.0, "share of the target spread evenly over the classes", at_least=0, below=1)
    class_weights: tuple[str | float, ...] = option(
        ("none",),
        "weight of each class in the loss on the labels: none, balanced (images / (classes x images of the class)), or "
        "one number per class",
    )
    auxiliary_weight: float = option(
        0.5,
        "weight of the second head's loss, which a segmentation network has in training only; 0 = no such head",
        at_least=0,
        task="segmentation",
    )
    average: str = option("logits", "how the ensemble combines the branches", ("logits", "probs", "max"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    accumulation: int = option(1, "pieces a batch is processed in, to save memory", at_least=1)
    clip_norm: float = option(0.0, "largest gradient norm of each branch; 0 = off", at_least=0)
    sync_batch_norm: bool = option(False, "compute batch statistics over all replicas")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimisation:
    batch_size: int = option(128, "images per step, over all replicas and machines", at_least=1)
    repeated_augmentation: int = option(
        1,
        "times a batch shows each image, in other views; an epoch keeps its steps and reaches fewer images",
        at_least=1,
    )
    epochs: int = option(300, "passes over the training images", at_least=1)
    max_steps: int = option(0, "stop after this many steps; 0 = off", at_least=0, free=True)
    optimizer: str = option("sgd", "sgd (Nesterov, coupled L2), adamw or lamb (decoupled)", ("sgd", "adamw", "lamb"))
    lr: float = option(0.1, "learning rate after the warm-up", at_least=0)
    momentum: float = option(0.9, "momentum of sgd", at_least=0, below=1)
    schedule: str = option(
        "cosine",
        "course of the learning rate after the warm-up; cosine_floor is timm's, over all epochs, with min_lr added",
        ("cosine", "cosine_floor", "step", "constant", "poly"),
    )
    warmup_epochs: int = option(
        0,
        "epochs of linear warm-up of the learning rate; -1 = the published none: a cosine that starts one epoch in",
        at_least=-1,
    )
    warmup_lr: float = option(0.005, "learning rate the warm-up starts from", at_least=0)
    min_lr: float = option(1e-4, "floor of the cosine schedules", at_least=0)
    step_epochs: tuple[int, ...] = option((), "epochs at which the step schedule falls (default: 30, 60 and 90%)")
    step_factor: float = option(0.1, "factor of each fall of the step schedule", above=0, at_most=1)
    poly_power: float = option(0.9, "power of the poly schedule, lr (1 - share of the steps) ^ power", above=0)
    weight_decay: float = option(
        -1.0,
        "weight decay of the whole; -1 = the published one of the preset",
        at_least=0,
        special={-1: "the published one"},
    )
    weight_decay_division: str = option("none", "rule that divides weight decay", ("none", "linear", "exp"))
    ema: float = option(0.0, "decay of the weights' moving average, e.g. 0.999; 0 = off", at_least=0, below=1)
    evaluate_ema: bool = option(False, "select, evaluate and export the averaged weights")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Machine:
    precision: str = option(
        "float32", "numbers the network computes with", ("float32", "mixed_bfloat16", "mixed_float16")
    )
    strategy: str = option("auto", "devices to train on", ("auto", "one", "mirrored", "multi_worker"), free=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    workdir: str = option("", "folder of the run; training again in it continues", free=True)
    init_from: str = option(
        "", "start from the weights of this run's folder or published checkpoint (a new head where classes differ)"
    )
    seed: int = option(0, "seed of weights, order, views and mixing", at_least=0, below=2**31)
    save_every: int = option(0, "steps between checkpoints; 0 = at the end of each epoch only", at_least=0, free=True)
    keep: int = option(2, "checkpoints kept beside the best", at_least=1, free=True)
    evaluate_every: int = option(
        1, "epochs between evaluations on --select's images; the last epoch is always evaluated", at_least=1
    )
    select: str = option("validation", "split that chooses the best epoch", ("validation", "test"))
    evaluation_batch_size: int = option(
        250, "images (for clips, frames) per step when evaluating", at_least=1, free=True
    )
    test_views: str = option(
        "1x1",
        "clips of a film x crops of a clip whose logits are averaged when a trained run is evaluated, e.g. 10x3",
        task="video",
        free=True,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """All settings of a run; raises one UserError that names every fault."""

    data: Data = Data()
    network: Network = Network()
    views: Views = Views()
    cotraining: Cotraining = Cotraining()
    step: Step = Step()
    optimisation: Optimisation = Optimisation()
    machine: Machine = Machine()
    run: Run = Run()

    def __post_init__(self) -> None:
        pairs = [(field, getattr(getattr(self, section), field.name)) for section, field in fields()]
        faults = validation.of_run(pairs)
        if faults:
            raise UserError("\n".join(faults))


SECTIONS: dict[str, type] = {field.name: type(field.default) for field in dataclasses.fields(Config)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(Network, Views, Cotraining, Step):
    """All settings of a `DiCo`: four sections of a run's flags, and values that a run takes from its data."""

    model: str | dict[str, Any] = option("", "a preset's name, a .keras file, or a network's saved description")
    classes: int = option(0, "number of classes", at_least=1)
    image_size: int = option(32, "side of the square images in pixels", at_least=4)
    frames: int = option(0, "frames of a clip; 0 = the preset's own", at_least=0, task="video")
    weight_decay: float = option(0.0, "coupled weight decay (L2) of a branch", at_least=0)
    mean: tuple[float, ...] = option((0.485, 0.456, 0.406), "mean of RGB in 0..1, for normalisation")
    std: tuple[float, ...] = option((0.229, 0.224, 0.225), "standard deviation of RGB in 0..1, for normalisation")
    seed: int = option(0, "seed of views and mixing", at_least=0, below=2**31)

    def check(self, task: str) -> None:
        """Raise one UserError that names every fault of these settings for a network of this task."""
        pairs = [(field, getattr(self, field.name)) for field in dataclasses.fields(self)]
        faults = validation.of_model(pairs, task)
        if faults:
            raise UserError("\n".join(faults))

    def target_for(self, task: str) -> str:
        """Return softmax or binary, which `target="auto"` leaves to the task and method."""
        return validation.target(self, task)


def fields(*sections: str) -> Iterator[tuple[str, dataclasses.Field]]:
    """Yield every (section, field) of the sections named, or of all."""
    for name in sections or SECTIONS:
        for field in dataclasses.fields(SECTIONS[name]):
            yield name, field


def from_values(values: Mapping[str, Any]) -> Config:
    """Return the Config of a flat {field: value}."""
    owner = {field.name: section for section, field in fields()}
    parts: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for name, value in values.items():
        parts[owner[name]][name] = tuple(value) if isinstance(value, list) else value
    return Config(**{section: SECTIONS[section](**part) for section, part in parts.items()})


def to_values(config: Config) -> dict[str, Any]:
    """Return the flat {field: value} of a Config."""
    return {field.name: getattr(getattr(config, section), field.name) for section, field in fields()}


def without_removed(values: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """Return the values without settings that earlier versions had.

    Raises:
        UserError: a removed setting is not at its default, so that what it did cannot be repeated.
    """
    used = [f"--{name}={values[name]}" for name, default in REMOVED.items() if values.get(name, default) != default]
    if used:
        raise UserError(
            f"{origin} was made by an earlier version with {', '.join(used)}, which this version no longer has: "
            "use that version, or train again without"
        )
    return {name: value for name, value in values.items() if name not in REMOVED}


def from_json(values: Mapping[str, Any], origin: str = "the run") -> Config:
    """Return the Config that a run's config.json holds under "config"; messages name its `origin`."""
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    values = without_removed(values, origin)
    unknown = sorted(set(values) - {field.name for _, field in fields()})
    if unknown:
        raise UserError(f"{origin} was made by another version: its config has {', '.join(unknown)}, unknown here")
    return from_values(values)


def identity(config: Config) -> dict[str, Any]:
    """Return the settings that make a run what it is: all that differ from their defaults and may not change later."""
    return {
        field.name: value
        for section, field in fields()
        if (value := getattr(getattr(config, section), field.name)) != field.default and not field.metadata["free"]
    }


def clips_and_crops(text: str) -> tuple[int, int]:
    """Return (clips of a film, crops of a clip) of `10x3`; `10` is 10x1."""
    fault = validation.clips_and_crops_fault(text)
    if fault:
        raise UserError(fault)
    clips, _, crops = text.partition("x")
    return int(clips), int(crops or 1)
