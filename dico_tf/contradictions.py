"""What cannot be asked for: values of the wrong kind or out of range, and flags that contradict each other."""

from __future__ import annotations

import dataclasses
import itertools
import math
import typing
from collections.abc import Iterator
from typing import Any

from dico_tf.errors import UserError

if typing.TYPE_CHECKING:
    from dico_tf.config import Config, Optimisation


def faults(config: Config) -> Iterator[str]:
    """Values of the wrong kind alone where there are any: nothing else can be said of them."""
    kinds = list(_kind_faults(config))
    if kinds:
        yield from kinds
        return
    yield from _choice_faults(config)
    yield from _number_faults(config)
    yield from _contradictions(config)


def _values(config: Config) -> Iterator[tuple[dataclasses.Field, Any]]:
    for section in dataclasses.fields(config):
        part = getattr(config, section.name)
        for field in dataclasses.fields(part):
            yield field, getattr(part, field.name)


KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def _has_kind(value: Any, kind: type) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _kind_faults(config: Config) -> Iterator[str]:
    """Flags have their kinds; a config.json may have been edited, and Python may say anything."""
    for field, value in _values(config):
        several = typing.get_origin(field.type) is tuple
        kind = typing.get_args(field.type)[0] if several else field.type
        if several and not (isinstance(value, tuple) and all(_has_kind(part, kind) for part in value)):
            yield f"--{field.name}={value!r} is not a list, each {KINDS[kind]}"
        elif not several and not _has_kind(value, kind):
            yield f"--{field.name}={value!r} is not {KINDS[kind]}"
        elif kind is str and any(len(f"{part}.".splitlines()) > 1 for part in (value if several else (value,))):
            yield f"--{field.name}={value!r} holds a line break"


def _choice_faults(config: Config) -> Iterator[str]:
    for field, value in _values(config):
        choices = field.metadata["choices"]
        if choices and value not in choices:
            yield f"--{field.name}={value} is none of {', '.join(choices)}"


_AT_LEAST = {
    "image_size": 0, "frames": 0, "frame_rate": 0, "void": -1, "classes": 0, "validation": 0, "splits": 1, "mixup": 0,
    "cutmix": 0, "agreement_weight": 0, "agreement_warmup_epochs": 0, "auxiliary_weight": 0, "batch_size": 1,
    "accumulation": 1, "epochs": 1, "max_steps": 0, "lr": 0, "warmup_epochs": -1, "warmup_lr": 0, "min_lr": 0,
    "clip_norm": 0, "seed": 0, "save_every": 0, "keep": 1, "evaluation_batch_size": 1,
}  # fmt: skip
SMALLEST = 4  # pixels; of fewer, layers of some networks would have none left
_SHARES = ("label_smoothing", "ema", "momentum")


def _number_faults(config: Config) -> Iterator[str]:
    for field, value in _values(config):
        name = field.name
        if field.type is float and not math.isfinite(value):
            yield f"--{name}={value} is not a finite number"
        elif name in _AT_LEAST and value < _AT_LEAST[name]:
            yield f"--{name}={value} must be at least {_AT_LEAST[name]}"
        elif name == "image_size" and 0 < value < SMALLEST:
            yield f"--{name}={value} must be at least {SMALLEST} (or 0: the data set's own)"
        elif name in _SHARES and not 0 <= value < 1:
            yield f"--{name}={value} must be at least 0 and below 1"
        elif name == "step_factor" and not 0 < value <= 1:
            yield f"--{name}={value} must be above 0 and at most 1"
        elif name == "poly_power" and value <= 0:
            yield f"--{name}={value} must be above 0"
        elif name == "void" and value > 255:
            yield f"--{name}={value} must be at most 255: masks have 8 bits (or -1: every pixel has a class)"
        elif name == "weight_decay" and value < 0 and value != -1:
            yield f"--{name}={value} must be at least 0 (or -1: the published one)"
        elif name == "seed" and value >= 2**31:
            yield f"--{name}={value} must be below {2**31}"
        elif name == "step_epochs" and any(b <= a for a, b in itertools.pairwise((0, *value))):
            yield f"--{name}={','.join(map(str, value))} must rise, from at least 1"


def _contradictions(config: Config) -> Iterator[str]:
    data, network, views, cotraining = config.data, config.network, config.views, config.cotraining
    run = config.run
    if len(views.views) not in (1, network.splits):
        yield f"--views names {len(views.views)} policies for {network.splits} branches: give one, or one per branch"
    if views.same_views and len(set(views.views)) > 1:
        yield "--same_views contradicts different --views per branch: give one policy"
    if views.same_views and cotraining.training == "independent":
        yield "--same_views contradicts --training=independent, where each branch has its own order of images"
    if cotraining.cascade_aware and cotraining.training == "independent":
        yield "--cascade_aware contradicts --training=independent, where no branch knows of another"
    if cotraining.cascade_aware and network.splits < 2:
        yield "--cascade_aware needs --splits of at least 2: one branch has none before it"
    if data.validation == 0 and run.select == "validation":
        yield "--validation=0 leaves nothing for --select=validation: give --select=test, or carve some images"
    yield from _contradictions_of_task(config)
    yield from _contradictions_of_optimisation(config.optimisation)


def clips_and_crops(text: str) -> tuple[int, int]:
    """(clips of a film, crops of a clip) of `10x3`; `10` is 10x1."""
    clips, _, crops = text.partition("x")
    if not (clips.isdecimal() and int(clips) and crops in ("", "1", "3")):
        raise UserError(
            f"--test_views={text} is not CLIPSxCROPS, e.g. 10x3: a number of clips, and 1 crop (the centre) or 3 (from "
            "end to end of the long side)"
        )
    return int(clips), int(crops or 1)


# flag that one task alone has a use for -> the task, what the flag is of
_OF_ONE_TASK = {
    "frames": ("video", "clips"),
    "frame_rate": ("video", "clips"),
    "test_views": ("video", "clips"),
    "void": ("segmentation", "masks"),
    "auxiliary_weight": ("segmentation", "masks"),
}


def _contradictions_of_task(config: Config) -> Iterator[str]:
    data = config.data
    for field, value in _values(config):
        task, what = _OF_ONE_TASK.get(field.name, (data.task, ""))
        if task != data.task and value != field.default:
            yield (
                f"--{field.name}={value} is of {what} and contradicts --task={data.task}: give --task={task}, or leave "
                "it out"
            )
    if data.dataset == "moving" and data.task != "video":
        yield f"--dataset=moving holds clips and contradicts --task={data.task}: give --task=video"
    try:
        clips_and_crops(config.run.test_views)
    except UserError as error:
        yield str(error)
    if data.task == "segmentation":
        yield from _contradictions_of_segmentation(config)


def _contradictions_of_segmentation(config: Config) -> Iterator[str]:
    data, views, cotraining, o = config.data, config.views, config.cotraining, config.optimisation
    for name, value in (("mixup", views.mixup), ("cutmix", views.cutmix)):
        if value:
            yield f"--{name}={value:g} mixes whole images and contradicts --task=segmentation: give --{name}=0"
    if cotraining.training == "independent":
        yield (
            "--training=independent contradicts --task=segmentation, whose branches share each image's crop: "
            "give --agreement=none"
        )
    if cotraining.cascade_aware:
        yield "--cascade_aware contradicts --task=segmentation: it weighs whole images"
    if data.skip_unreadable:
        yield "--skip_unreadable contradicts --task=segmentation: repair or remove pictures together with their masks"
    if o.accumulation > 0 and o.batch_size // o.accumulation < 2:
        yield (
            f"--batch_size={o.batch_size} in --accumulation={o.accumulation} pieces leaves one image, of which the "
            "network's image pooling has no batch statistics: give at least 2 a piece"
        )


def _contradictions_of_optimisation(o: Optimisation) -> Iterator[str]:
    if o.accumulation > 0 and o.batch_size % o.accumulation:
        yield f"--batch_size={o.batch_size} does not divide into --accumulation={o.accumulation} equal pieces"
    if o.warmup_epochs > 0 and o.warmup_epochs >= o.epochs:
        yield f"--warmup_epochs={o.warmup_epochs} must be below --epochs={o.epochs}"
    if o.warmup_epochs == -1 and o.schedule != "cosine":
        yield f"--warmup_epochs=-1 shifts a cosine and contradicts --schedule={o.schedule}: give --warmup_epochs=0"
    if o.warmup_epochs > 0 and o.warmup_lr > o.lr:
        yield f"--warmup_lr={o.warmup_lr} is above --lr={o.lr}, which the warm-up rises to: give a smaller one"
    if o.schedule == "cosine" and o.min_lr > o.lr:
        yield f"--min_lr={o.min_lr} is above --lr={o.lr}, which the cosine falls from: give a smaller one"
    if o.evaluate_ema and not o.ema:
        yield "--evaluate_ema needs averaged weights: give --ema, e.g. --ema=0.999"
    if o.step_epochs and o.schedule != "step":
        yield f"--step_epochs contradicts --schedule={o.schedule}: give --schedule=step"
