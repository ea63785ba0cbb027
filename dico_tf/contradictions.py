"""Flags that make no sense together, by task and by method; what a Config refuses, said for people."""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from dico_tf.errors import UserError

if TYPE_CHECKING:
    from dico_tf.config import Config


def target(config: "Config") -> str:
    """What --target=auto means: submodels were published with binary targets, branches with softmax."""
    asked = config.cotraining.target
    return asked if asked != "auto" else "binary" if "cosub" in config.cotraining.method else "softmax"


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
    if cotraining.method != "dico" or cotraining.target == "binary":
        asked = f"method={cotraining.method}" if cotraining.method != "dico" else f"target={cotraining.target}"
        yield f"--{asked} contradicts --task=segmentation, whose pixels have one class each: leave it out"
    if data.skip_unreadable:
        yield "--skip_unreadable contradicts --task=segmentation: repair or remove pictures together with their masks"
    if o.accumulation > 0 and o.batch_size // o.accumulation < 2:
        yield (
            f"--batch_size={o.batch_size} in --accumulation={o.accumulation} pieces leaves one image, of which the "
            "network's image pooling has no batch statistics: give at least 2 a piece"
        )


def of_repeats(config: Any) -> Iterator[str]:
    repeats, batch_size = config.views.repeated_augmentation, config.optimisation.batch_size
    if repeats > 1 and set(config.views.views) == {"none"}:
        yield f"--repeated_augmentation={repeats} contradicts --views=none: what is repeated would be the same image"
    if repeats > batch_size:
        yield f"--repeated_augmentation={repeats} is more than --batch_size={batch_size}: give a smaller number"
