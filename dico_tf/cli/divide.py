"""Print how a network is divided, and its cost: dico divide --model=wrn_28_10 --splits=4 --dataset=cifar100"""

import dataclasses
import json

from dico_tf import config, flags, startup
from dico_tf.config import option
from dico_tf.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class DivideOptions:
    """Flags of `divide` that a run does not have."""

    json: bool = option(
        False, "print one JSON object, as the last line of standard output; with --all one for each preset and S"
    )
    all: bool = option(
        False,
        "print a table of every preset for images of this size, with each S it is made for, beside published figures",
    )


RUN_FLAGS = (
    "task",
    "model",
    "splits",
    "division",
    "branches",
    "whole",
    "dataset",
    "frames",
    "image_size",
    "classes",
    "weight_decay",
    "weight_decay_division",
)
SCRIPT = flags.Script(
    name="divide",
    about="Prints the widths that dividing a preset changes, and the cost of the branches and of the whole.",
    fields=(*flags.pick(*RUN_FLAGS), *flags.of(DivideOptions)),
)


def _listed(settings: config.Config):
    """Return the BranchList of the networks of --branches, or None without the flag."""
    if not settings.branch_list.branches:
        return None
    from dico_tf.evaluation.members.open_branches import open_branches

    return open_branches(settings).network


def main(arguments: list[str]) -> None:
    values, _ = flags.parse(SCRIPT, arguments)
    settings = config.from_values({name: values[name] for name in RUN_FLAGS})
    if values["all"] and values["branches"]:
        raise UserError("--all lists presets and contradicts --branches: leave one of them out")
    startup.tensorflow()
    from dico_tf.models import audit

    if values["all"]:
        lines = (json.dumps(report) for report in audit.every(settings)) if values["json"] else audit.table(settings)
        for line in lines:
            print(line, flush=True)
    else:
        report = audit.one(settings, _listed(settings))
        print(json.dumps(report) if values["json"] else audit.describe(report))
