"""Flags that make no sense together, in general, by task, by method and of optimisation."""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from dico_tf.errors import UserError

if TYPE_CHECKING:
    from dico_tf.config import Config, Optimisation


def of_config(config: "Config", values: Iterable[tuple[dataclasses.Field, Any]]) -> Iterator[str]:
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
    yield from of_task(config, values)
    yield from of_method(config)
    yield from _of_repeats(config)
    yield from _of_optimisation(config.optimisation)


def target(config: "Config") -> str:
    """What --target=auto means: submodels were published with binary targets, branches and pixels with softmax."""
    asked, binary = config.cotraining.target, "cosub" in config.cotraining.method
    if asked != "auto":
        return asked
    return "binary" if binary and config.data.task != "segmentation" else "softmax"


def of_method(config: "Config") -> Iterator[str]:
    network, cotraining = config.network, config.cotraining
    if cotraining.label_smoothing and target(config) == "binary":
        yield (
            f"--label_smoothing={cotraining.label_smoothing:g} would make every class present of binary targets: give "
            "--label_smoothing=0, or --target=softmax"
        )
    if "cosub" not in cotraining.method:
        for field in dataclasses.fields(cotraining):
            value = getattr(cotraining, field.name)
            if field.name in ("submodels", "label_weight") and value != field.default:
                yield f"--{field.name}={value:g} is of submodels and contradicts --method=dico: give --method=cosub"
        return
    if network.drop_path == 0:
        yield (
            f"--drop_path=0 leaves --method={cotraining.method} submodels that are all the same, with nothing to learn "
            "from one another: give a rate above 0, e.g. --drop_path=0.2"
        )
    if cotraining.method == "cosub" and network.splits > 1:
        yield f"--method=cosub trains one network and contradicts --splits={network.splits}: give --method=dico+cosub"
    if cotraining.method == "dico+cosub" and network.splits < 2:
        yield "--method=dico+cosub needs --splits of at least 2: of one network give --method=cosub"


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


def of_task(config: "Config", values: Iterable[tuple[dataclasses.Field, Any]]) -> Iterator[str]:
    data = config.data
    for field, value in values:
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
        yield from _of_segmentation(config)


def _of_segmentation(config: "Config") -> Iterator[str]:
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
    if cotraining.target == "binary":
        yield "--target=binary contradicts --task=segmentation, whose pixels have one class each: leave it out"
    if data.skip_unreadable:
        yield "--skip_unreadable contradicts --task=segmentation: repair or remove pictures together with their masks"
    if o.accumulation > 0 and o.batch_size // o.accumulation < 2:
        yield (
            f"--batch_size={o.batch_size} in --accumulation={o.accumulation} pieces leaves one image, of which the "
            "network's image pooling has no batch statistics: give at least 2 a piece"
        )


def _of_optimisation(o: "Optimisation") -> Iterator[str]:
    if o.accumulation > 0 and o.batch_size % o.accumulation:
        yield f"--batch_size={o.batch_size} does not divide into --accumulation={o.accumulation} equal pieces"
    if o.warmup_epochs > 0 and o.warmup_epochs >= o.epochs:
        yield f"--warmup_epochs={o.warmup_epochs} must be below --epochs={o.epochs}"
    if o.warmup_epochs == -1 and o.schedule != "cosine":
        yield f"--warmup_epochs=-1 shifts a cosine and contradicts --schedule={o.schedule}: give --warmup_epochs=0"
    if o.warmup_epochs > 0 and o.warmup_lr > o.lr:
        yield f"--warmup_lr={o.warmup_lr} is above --lr={o.lr}, which the warm-up rises to: give a smaller one"
    if o.schedule.startswith("cosine") and o.min_lr > o.lr:
        yield f"--min_lr={o.min_lr} is above --lr={o.lr}, which the cosine falls from: give a smaller one"
    if o.evaluate_ema and not o.ema:
        yield "--evaluate_ema needs averaged weights: give --ema, e.g. --ema=0.999"
    if o.step_epochs and o.schedule != "step":
        yield f"--step_epochs contradicts --schedule={o.schedule}: give --schedule=step"


def _of_repeats(config: "Config") -> Iterator[str]:
    repeats, batch_size = config.views.repeated_augmentation, config.optimisation.batch_size
    if repeats > 1 and set(config.views.views) == {"none"}:
        yield f"--repeated_augmentation={repeats} contradicts --views=none: what is repeated would be the same image"
    if repeats > batch_size:
        yield f"--repeated_augmentation={repeats} is more than --batch_size={batch_size}: give a smaller number"
