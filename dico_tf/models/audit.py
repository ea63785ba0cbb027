"""What dividing a preset changes and costs, as one JSON object and as text for people."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from dico_tf.config import FORMAT, Config
from dico_tf.data.shapes import CIFAR_LARGEST, shape
from dico_tf.divide import weight_decay
from dico_tf.divide.networks.cost import Cost, cost
from dico_tf.divide.networks.graph import weightless
from dico_tf.models.menu import PRESETS, Preset

REGULARISERS = ("dropout",)


def count(preset: Preset, image_size: int, classes: int) -> Cost:
    """Counted without making a weight."""
    return weightless(lambda: cost(preset.build(image_size, classes)))


def _pairs(whole: Any, branch: Any, names: list[str]) -> dict[str, list]:
    return {n: [getattr(whole, n), getattr(branch, n)] for n in names if getattr(whole, n) != getattr(branch, n)}


def audit(config: Config, image_size: int, classes: int) -> dict[str, Any]:
    """The object `divide.py --json` prints."""
    splits, preset = config.network.splits, PRESETS[config.network.model]
    divided = preset.divided(splits)
    whole, branch = (count(p, image_size, classes) for p in (preset, divided))
    names = [field.name for field in dataclasses.fields(preset.spec)]
    return {
        "format": FORMAT,
        "model": preset.name,
        "splits": splits,
        "division": config.network.division,
        "dataset": config.data.dataset,
        "image_size": image_size,
        "classes": classes,
        "changes": _pairs(preset.spec, divided.spec, [n for n in names if n not in REGULARISERS]),
        "branches": [dataclasses.asdict(branch) for _ in range(splits)],
        "total_params": splits * branch.params,
        "total_macs": splits * branch.macs,
        "whole_params": whole.params,
        "whole_macs": whole.macs,
        "weight_decay": _weight_decay(config),
        "regularisation": _pairs(preset.spec, divided.spec, [n for n in names if n in REGULARISERS]),
    }


def _weight_decay(config: Config) -> dict[str, Any]:
    rule, whole = config.optimisation.weight_decay_division, weight_decay.of_whole(config)
    return {"whole": whole, "branch": weight_decay.of_branch(config), "rule": rule}


def one(config: Config) -> dict[str, Any]:
    """The audit of what was asked for, without loading data."""
    return audit(config, *shape(config.data.dataset, config.data.image_size, config.data.classes))


def every(config: Config) -> Iterator[dict[str, Any]]:
    """Each preset of the data set's layout, by each S it has."""
    image_size, _ = shape(config.data.dataset, config.data.image_size, config.data.classes)
    layout = "cifar" if image_size <= CIFAR_LARGEST else "imagenet"
    for name in PRESETS:
        family = PRESETS[name].family
        for splits in family.SPLITS if layout == family.LAYOUT else ():
            network = dataclasses.replace(config.network, model=name, splits=splits)
            yield one(dataclasses.replace(config, network=network))


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}%"


def describe(report: dict[str, Any]) -> str:
    """The audit as lines to read."""
    r = report
    changes = {**r["changes"], **r["regularisation"]}
    decay = r["weight_decay"]
    branch = r["branches"][0]
    rows = [
        ("one branch", branch["params"], branch["macs"]),
        (f"{r['splits']} branches together", r["total_params"], r["total_macs"]),
        ("the whole", r["whole_params"], r["whole_macs"]),
    ]
    lines = [
        f"{r['model']} divided by {r['splits']} ({r['division']} rule), "
        f"{r['dataset']}: {r['image_size']}x{r['image_size']} pixels, {r['classes']} classes",
        *(f"  {name}: {before:g} -> {after:g}" for name, (before, after) in changes.items()),
        f"  weight decay: {decay['whole']:g} -> {decay['branch']:g} (rule: {decay['rule']})",
        "",
        f"  {'':22}{'parameters':>14}{'of whole':>10}{'multiply-adds':>18}{'of whole':>10}",
    ]
    for name, params, macs in rows:
        lines.append(
            f"  {name:22}{params:>14,}{_share(params, r['whole_params']):>10}"
            f"{macs:>18,}{_share(macs, r['whole_macs']):>10}"
        )
    return "\n".join([*lines, "", "Multiply-adds of convolutions and dense layers, per image; papers call them FLOPs."])
