"""What a Config refuses: values of the wrong kind, of no choice or out of range, and contradictions."""

from __future__ import annotations

import dataclasses
import itertools
import math
import typing
from collections.abc import Iterator
from typing import Any

from dico_tf import contradictions

if typing.TYPE_CHECKING:
    from dico_tf.config import Config


def faults(config: Config) -> Iterator[str]:
    """Values of the wrong kind alone where there are any: nothing else can be said of them."""
    kinds = list(_kind_faults(config))
    if kinds:
        yield from kinds
        return
    yield from _choice_faults(config)
    yield from _number_faults(config)
    yield from contradictions.of_config(config, list(_values(config)))


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
    "cutmix": 0, "repeated_augmentation": 1, "agreement_weight": 0, "agreement_warmup_epochs": 0,
    "auxiliary_weight": 0, "batch_size": 1, "accumulation": 1, "epochs": 1, "max_steps": 0, "lr": 0,
    "warmup_epochs": -1, "warmup_lr": 0, "min_lr": 0, "submodels": 2, "clip_norm": 0, "seed": 0, "save_every": 0,
    "keep": 1, "evaluation_batch_size": 1,
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
        elif name == "drop_path" and value != -1 and not 0 <= value < 1:
            yield f"--{name}={value} must be at least 0 and below 1 (or -1: the preset's own)"
        elif name == "label_weight" and not 0 < value <= 1:
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
