"""Check settings: types, choices, bounds, and rules between fields.

A fault is one line of text: the flag, what is wrong with it, and what to give instead. `of_run` names flags, such as
--lr. `of_model` names arguments, such as lr.
"""

import itertools
import math
import numbers
import re
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from dico_tf.config.schema import NetworkOptions

if typing.TYPE_CHECKING:
    import dataclasses

KINDS: dict[Any, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}

SMALLEST = 4  # pixels of an image's side: in smaller images some networks have layers without positions

Pairs = Sequence[tuple["dataclasses.Field", Any]]


def of_run(pairs: Pairs) -> list[str]:
    """Return every fault of a run's settings, which are pairs (field, value)."""
    return _faults(pairs, "", (*MODEL_RULES, *RUN_RULES))


def of_model(pairs: Pairs, task: str) -> list[str]:
    """Return every fault of a model's settings, pairs (field, value); names have no dashes, as arguments of `DiCo`."""
    return [re.sub(r"--(?=[a-z])", "", fault) for fault in _faults(pairs, task, MODEL_RULES)]


def _faults(pairs: Pairs, task: str, rules: Sequence[Callable]) -> list[str]:
    """Return the wrong types if there are any, for then nothing else can be checked; else all other faults."""
    kinds = [fault for field, value in pairs if (fault := _kind_fault(field, value))]
    if kinds:
        return kinds
    settings = types.SimpleNamespace(**{field.name: value for field, value in pairs})
    settings.task = getattr(settings, "task", "") or task
    faults = [fault for field, value in pairs for fault in _field_faults(field, value)]
    faults += [fault for field, value in pairs for fault in _misplaced(field, value, settings)]
    return faults + [fault for rule in rules for fault in rule(settings)]


def _has_kind(value: Any, kind: type) -> bool:
    if kind is bool or isinstance(value, bool):
        return kind is bool and isinstance(value, bool)
    if kind is float:
        return isinstance(value, numbers.Real)
    return isinstance(value, numbers.Integral if kind is int else kind)


def _kind_fault(field: "dataclasses.Field", value: Any) -> str:
    """Return the fault of a value of the wrong type or with a line break, or "".

    Values may come from arguments or an edited config.json.
    """
    several = typing.get_origin(field.type) is tuple
    kind = typing.get_args(field.type)[0] if several else field.type
    if kind not in KINDS:
        return ""
    if several and not (isinstance(value, tuple) and all(_has_kind(part, kind) for part in value)):
        return f"--{field.name}={value!r} must be a list, each entry {KINDS[kind]}"
    if not several and not _has_kind(value, kind):
        return f"--{field.name}={value!r} must be {KINDS[kind]}"
    if kind is str and any(len(f"{part}.".splitlines()) > 1 for part in (value if several else (value,))):
        return f"--{field.name}={value!r} contains a line break"
    return ""


def _field_faults(field: "dataclasses.Field", value: Any) -> Iterator[str]:
    name, choices, bounds = field.name, field.metadata["choices"], field.metadata["bounds"]
    if choices and value not in choices:
        yield f"--{name} must be one of {', '.join(choices)}, got {value!r}"
    elif field.type is float and not math.isfinite(value):
        yield f"--{name}={value} is not a finite number"
    elif bounds and value not in bounds:
        yield f"--{name}={value} must be {bounds}"


def _misplaced(field: "dataclasses.Field", value: Any, settings: Any) -> Iterator[str]:
    """Yield a fault if a field is not at its default although the task does not use it; likewise for the method."""
    task, methods = field.metadata["task"], field.metadata["methods"]
    if value == field.default:
        return
    if task and task != settings.task:
        yield (
            f"--{field.name}={value} is for --task={task} and contradicts --task={settings.task}: give --task={task}, "
            "or leave it out"
        )
    if methods and settings.method not in methods:
        yield (
            f"--{field.name}={value} is for --method={' or '.join(methods)} and contradicts "
            f"--method={settings.method}: give --method={methods[0]}, or leave it out"
        )


def target(settings: Any, task: str) -> str:
    """Return the setting `target`, "binary" or "softmax". If it is "auto", choose one of the two.

    It is binary for methods with cosub, as published, except in segmentation; in all other cases softmax.
    """
    if settings.target != "auto":
        return settings.target
    return "binary" if "cosub" in settings.method and task != "segmentation" else "softmax"


# Settings that --branches replaces, which keep their defaults with it
_REPLACED = {
    "init_from": "",
    "init": "weights",
    **{name: getattr(NetworkOptions(), name) for name in ("model", "division", "drop_path")},
}


def _branches(s: Any) -> Iterator[str]:
    count = len(s.branches)
    if s.whole and not count:
        yield f"--whole={s.whole} is compared with --branches: give --branches, or leave it out"
    if not count:
        return
    for name, neutral in _REPLACED.items():
        if (value := getattr(s, name)) != neutral:
            why = "each of which has its own weights" if name == "init_from" else "which are networks of their own"
            yield f"--{name}={value} contradicts --branches, {why}: leave one of them out"
    if s.splits not in (1, count):
        yield f"--splits={s.splits} contradicts --branches, which names {count}: leave --splits out"
    if s.task != "classification":
        yield f"--branches contradicts --task={s.task}: give --task=classification, or --model and --splits"
    if s.precision != "float32":
        yield f"--precision={s.precision} is for presets and contradicts --branches: give --precision=float32"


def _views(s: Any) -> Iterator[str]:
    if len(s.views) not in (1, s.splits):
        yield f"--views names {len(s.views)} policies for {s.splits} branches: give one, or one per branch"
    if s.same_views and len(set(s.views)) > 1:
        yield "--same_views contradicts different --views per branch: give one policy"
    if s.same_views and s.training == "independent":
        yield "--same_views contradicts --training=independent, where each branch has its own images: leave it out"


def _method(s: Any) -> Iterator[str]:
    if s.label_smoothing and target(s, s.task) == "binary":
        yield (
            f"--label_smoothing={s.label_smoothing:g} would make every class present in binary targets: give "
            "--label_smoothing=0, or --target=softmax"
        )
    if "cosub" in s.method and s.drop_path == 0:
        yield (
            f"--drop_path=0 makes all submodels of --method={s.method} the same, with nothing to learn from one "
            "another: give a rate above 0, e.g. --drop_path=0.2"
        )
    if "cosub" in s.method and s.label_weight == 0:
        yield "--label_weight=0 leaves submodels without labels: give a weight above 0, e.g. --label_weight=0.5"
    if s.method == "cosub" and s.splits > 1:
        yield f"--method=cosub trains one network and contradicts --splits={s.splits}: give --method=dico+cosub"
    if s.method == "dico+cosub" and s.splits < 2:
        yield "--method=dico+cosub needs --splits of at least 2: for one network give --method=cosub"


def _class_weights(s: Any) -> Iterator[str]:
    words = s.class_weights
    if tuple(words) in (("none",), ("balanced",)):
        return
    flag = f"--class_weights={','.join(map(str, words))}"
    if any(weight is None or weight < 0 for weight in map(number, words)) or not any(map(number, words)):
        yield f"{flag} must be none, balanced, or numbers of at least 0 that are not all 0, one for each class"
    elif s.classes and len(words) != s.classes:
        yield f"{flag} has {len(words)} weights for {s.classes} classes: give one for each class"


def number(word: Any) -> float | None:
    """Return the finite number that a word spells, or None."""
    try:
        value = float(word)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def _distill(s: Any) -> Iterator[str]:
    if s.method == "distill" and s.teacher_views == "clean" and s.task != "classification":
        yield (
            f"--teacher_views=clean contradicts --task={s.task}, whose crops and clips change in each epoch: "
            "leave it out"
        )


def frozen_epochs(freeze: str) -> int | None:
    """Return the number of epochs, from 1, of --freeze=N. Return 0 for none or backbone, None for any other value."""
    if freeze in ("none", "backbone"):
        return 0
    return int(freeze) if re.fullmatch(r"[0-9]{1,9}", freeze) and int(freeze) else None


def _freeze(s: Any) -> Iterator[str]:
    if frozen_epochs(s.freeze) is None:
        yield f"--freeze={s.freeze} must be none, backbone, or a number of epochs from 1"
    if s.freeze == "backbone" and s.backbone_lr != 1:
        yield (
            f"--backbone_lr={s.backbone_lr:g} contradicts --freeze=backbone, where the backbone does not learn: leave "
            "one of them out"
        )


def _trained_backbone(s: Any) -> Iterator[str]:
    for name, default in (("freeze", "none"), ("batch_statistics", "train")):
        value = getattr(s, name)
        if value != default and not s.init_from and not s.branches:
            yield f"--{name}={value} needs trained weights: give --init_from or --branches, or leave it out"
        elif value != default and s.init == "slices":
            yield f"--{name}={value} contradicts --init=slices, whose backbones have to learn: leave it out"
    epochs = frozen_epochs(s.freeze) or 0
    if epochs and epochs >= s.epochs:
        yield f"--freeze={s.freeze} must be below --epochs={s.epochs}: for all epochs give --freeze=backbone"


def _segmentation(s: Any) -> Iterator[str]:
    if s.task != "segmentation":
        return
    for name in ("mixup", "cutmix"):
        if value := getattr(s, name):
            yield f"--{name}={value:g} mixes whole images and contradicts --task=segmentation: give --{name}=0"
    if s.training == "independent":
        yield (
            "--training=independent contradicts --task=segmentation, whose branches share each image's crop: "
            "give --agreement=none"
        )
    if s.target == "binary":
        yield "--target=binary contradicts --task=segmentation, whose pixels have one class each: leave it out"


def _teacher(s: Any) -> Iterator[str]:
    if s.method == "distill" and not s.teacher:
        yield "--method=distill needs --teacher: a run's folder, a committee.json, or any member of a committee"


def _splits(s: Any) -> Iterator[str]:
    if s.validation == 0 and s.select == "validation":
        yield "--validation=0 sets no images aside for --select=validation: give --select=test, or a number above 0"


def _task(s: Any) -> Iterator[str]:
    if s.dataset == "moving" and s.task != "video":
        yield f"--dataset=moving holds clips and contradicts --task={s.task}: give --task=video"
    if fault := clips_and_crops_fault(s.test_views):
        yield fault
    if s.task == "segmentation" and s.skip_unreadable:
        yield "--skip_unreadable contradicts --task=segmentation: repair or remove images together with their masks"
    if s.label_noise and s.task == "segmentation":
        yield f"--label_noise={s.label_noise:g} contradicts --task=segmentation, whose labels are masks: leave it out"
    if s.skip_duplicates and not (s.task == "classification" and s.dataset.startswith("folder")):
        yield (
            f"--skip_duplicates is for classes of images in a folder and contradicts --task={s.task} "
            f"--dataset={s.dataset}: leave it out"
        )
    if s.task == "segmentation" and s.accumulation > 0 and s.batch_size // s.accumulation < 2:
        yield (
            f"--batch_size={s.batch_size} in --accumulation={s.accumulation} pieces leaves one image in a piece, "
            "too few for the batch statistics of the network's image pooling: give pieces of at least 2 images"
        )


def clips_and_crops_fault(text: str) -> str:
    clips, _, crops = text.partition("x")
    if clips.isdecimal() and int(clips) and crops in ("", "1", "3"):
        return ""
    return (
        f"--test_views={text} must be CLIPSxCROPS such as 10x3: a number of clips, and 1 crop (the centre) or 3 "
        "(along the long side)"
    )


def _batch(s: Any) -> Iterator[str]:
    if s.repeated_augmentation > 1 and set(s.views) == {"none"}:
        yield (
            f"--repeated_augmentation={s.repeated_augmentation} contradicts --views=none: all copies of an "
            "image would be the same"
        )
    if s.repeated_augmentation > s.batch_size:
        yield (
            f"--repeated_augmentation={s.repeated_augmentation} is more than --batch_size={s.batch_size}: give a "
            "smaller number"
        )
    if s.accumulation > 0 and s.batch_size % s.accumulation:
        yield (
            f"--batch_size={s.batch_size} does not divide into --accumulation={s.accumulation} equal pieces: give a "
            "multiple of --accumulation"
        )


def _init(s: Any) -> Iterator[str]:
    if s.branches:
        return
    if s.init == "slices" and not s.init_from:
        yield "--init=slices needs a trained network: give --init_from, such as the folder of a run with --splits=1"
    elif s.init == "slices" and s.splits == 1:
        yield (
            "--init=slices contradicts --splits=1, whose branch is the whole: give --splits=2 or more, or leave out "
            "--init=slices"
        )


def _schedule(s: Any) -> Iterator[str]:
    if s.warmup_epochs > 0 and s.warmup_epochs >= s.epochs:
        yield f"--warmup_epochs={s.warmup_epochs} must be below --epochs={s.epochs}"
    if s.warmup_epochs == -1 and s.schedule != "cosine":
        yield f"--warmup_epochs=-1 shifts a cosine and contradicts --schedule={s.schedule}: give --warmup_epochs=0"
    if s.warmup_epochs > 0 and s.warmup_lr > s.lr:
        yield f"--warmup_lr={s.warmup_lr} is above --lr={s.lr}, at which the warm-up ends: give a smaller one"
    if s.schedule.startswith("cosine") and s.min_lr > s.lr:
        yield f"--min_lr={s.min_lr} is above --lr={s.lr}, at which the cosine starts: give a smaller one"
    if s.evaluate_ema and not s.ema:
        yield "--evaluate_ema needs averaged weights: give --ema, e.g. --ema=0.999"
    if s.step_epochs and s.schedule != "step":
        yield f"--step_epochs contradicts --schedule={s.schedule}: give --schedule=step"
    if any(b <= a for a, b in itertools.pairwise((0, *s.step_epochs))):
        yield f"--step_epochs={','.join(map(str, s.step_epochs))} must be increasing and at least 1"


MODEL_RULES: tuple[Callable[[Any], Iterator[str]], ...] = (
    _views,
    _method,
    _distill,
    _class_weights,
    _segmentation,
    _freeze,
)
RUN_RULES: tuple[Callable[[Any], Iterator[str]], ...] = (
    _branches,
    _teacher,
    _splits,
    _task,
    _batch,
    _schedule,
    _init,
    _trained_backbone,
)
