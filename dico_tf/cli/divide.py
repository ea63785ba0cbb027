"""What dividing a network changes and costs: dico divide --model=wrn_28_10 --splits=4 --dataset=cifar100"""

import dataclasses
import json

from dico_tf import config, flags, startup
from dico_tf.config import option


@dataclasses.dataclass(frozen=True, kw_only=True)
class Printing:
    json: bool = option(False, "print one JSON object, on the last line of standard output")
    all: bool = option(False, "every preset of the data set's layout and every S it has, beside the published figures")


ASKED = (
    "task",
    "model",
    "splits",
    "division",
    "dataset",
    "frames",
    "image_size",
    "classes",
    "weight_decay",
    "weight_decay_division",
)
SCRIPT = flags.Script(
    name="divide",
    about="Prints what dividing a preset changes, and what branches and whole cost.",
    fields=(*flags.pick(*ASKED), *flags.of(Printing)),
)


def main(arguments: list[str]) -> None:
    values, _ = flags.parse(SCRIPT, arguments)
    asked = config.from_values({name: values[name] for name in ASKED})
    startup.tensorflow()
    from dico_tf.models import audit

    if values["all"]:
        lines = (json.dumps(report) for report in audit.every(asked)) if values["json"] else audit.table(asked)
        for line in lines:
            print(line, flush=True)
    else:
        report = audit.one(asked)
        print(json.dumps(report) if values["json"] else audit.describe(report))
