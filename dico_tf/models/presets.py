"""Every preset by its name. A new family is one file and one line in FAMILIES."""

import importlib
import json
from typing import Any

from dico_tf.config import COUPLED_DECAY, Config
from dico_tf.errors import UserError
from dico_tf.models import branch_list, custom
from dico_tf.models.family import PAPER_DECAY, Family, divided_weight_decay
from dico_tf.models.preset import Preset
from dico_tf.registry import Registry

FAMILIES = (  # modules of this room, each with a FAMILY
    "resnet",
    "wrn",
    "resnext",
    "se_resnet",
    "densenet",
    "pyramidnet",
    "shake_shake",
    "resnexst",
    "efficientnet",
    "efficientnet_lite",
    "deeplab",
    "x3d",
    "vit",
    "convnext",
    "regnet",
    "swin",
    "pit",
    "xcit",
    "upernet",
)


def families() -> tuple[Family, ...]:
    """Return the families in the order in which their presets are listed."""
    return tuple(importlib.import_module(f"dico_tf.models.{module}").FAMILY for module in FAMILIES)


def _registered() -> Registry[Preset]:
    presets: Registry[Preset] = Registry("model")
    for family in families():
        for specs, listed in ((family.presets, True), (family.unlisted, False)):
            for name, spec in specs.items():
                presets.add(name, Preset(name=name, family=family, spec=spec), listed)
    return presets


PRESETS = _registered()


def find(model: str | dict[str, Any]) -> Preset | custom.CustomNetwork | branch_list.BranchList:
    """Return a preset by its name, a network of the user's own by its .keras file, or what a `reference` describes.

    Raises UserError if the name is unknown or the file cannot be used.
    """
    if isinstance(model, dict) and "branches" in model:
        return branch_list.from_reference(model)
    if isinstance(model, dict):
        return custom.CustomNetwork(name=model["name"], text=json.dumps(model["blueprint"]))
    return custom.load(model) if _names_file(model) else PRESETS[model]


def _names_file(model: str) -> bool:
    """Return True if `model` is no preset and looks like a path: it has a dot or a slash."""
    return model not in PRESETS and ("." in model or "/" in model)


def check_task(model: str, task: str) -> None:
    """Raise UserError if the model is unknown or for another task; networks of the user's own classify images."""
    learns = custom.CustomNetwork.task if _names_file(model) else PRESETS[model].task
    if learns != task:
        examples = [preset.name for preset in PRESETS.values() if preset.task == task]
        raise UserError(
            f"--model={model} is for {learns} and --task={task}: give --task={learns}, or a model such as "
            f"{', '.join(examples[:3])}"
        )


def whole_weight_decay(config: Config, image_size: int) -> float:
    """Return the weight decay of the whole network: --weight_decay, or at -1 that of the preset's recipe.

    At -1 a network of the user's own and the networks of --branches have 1e-4, as in most recipes of arXiv 2011.14660.

    Args:
        image_size: side of the run's images; some recipes differ between those up to 64 pixels and larger ones.
    """
    options, model = config.optimisation, config.network.model
    if options.weight_decay != -1:
        return options.weight_decay
    decoupled = options.optimizer not in COUPLED_DECAY
    if config.branch_list.branches or model not in PRESETS:  # networks of the user's own
        return PAPER_DECAY.rate("", decoupled)
    preset = PRESETS[model]
    return preset.weight_decay.rate(preset.layout(image_size), decoupled)


def branch_weight_decay(config: Config, image_size: int) -> float:
    """Return the weight decay of one branch, by --weight_decay_division."""
    whole = whole_weight_decay(config, image_size)
    return divided_weight_decay(whole, config.network.splits, config.optimisation.weight_decay_division)
