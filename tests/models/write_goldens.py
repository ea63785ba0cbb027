"""python -m tests.models.write_goldens rewrites tests/goldens/divisions.json; read the diff before committing it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dico_tf import config
from dico_tf.models import audit
from dico_tf.models.menu import PRESETS

PATH = Path(__file__).parents[1] / "goldens" / "divisions.json"
LAYOUTS = {"cifar100": "cifar", "imagenet2012": "imagenet", "kinetics400": "video"}
SIZES = {"cifar100": 32, "imagenet2012": 224, "kinetics400": 0}


def entries() -> Iterator[tuple[str, str, int]]:
    """Every preset with the data sets of its layout, by each S it has."""
    for preset in PRESETS.values():
        for dataset, layout in LAYOUTS.items():
            if preset.layout(SIZES[dataset]) == layout:
                yield from ((preset.name, dataset, splits) for splits in preset.spec.splits)


def entry(model: str, dataset: str, splits: int) -> dict[str, Any]:
    """What is golden of an audit: what changed, and what a branch costs."""
    task = "video" if LAYOUTS[dataset] == "video" else "classification"
    report = audit.one(config.from_values({"model": model, "splits": splits, "dataset": dataset, "task": task}))
    kept = ("model", "splits", "dataset", "changes", "regularisation")
    found = {**{name: report[name] for name in kept}, **report["branches"][0]}
    return json.loads(json.dumps(found))


def main() -> None:
    lines = ",\n".join(json.dumps(entry(*which)) for which in entries())
    PATH.write_text(f'{{"format": 1, "divisions": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
