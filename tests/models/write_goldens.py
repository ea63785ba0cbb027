"""python -m tests.models.write_goldens rewrites tests/goldens/divisions.json; read the diff before committing it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dico_tf import config
from dico_tf.models import audit
from dico_tf.models.menu import PRESETS

PATH = Path(__file__).parents[1] / "goldens" / "divisions.json"
DATASETS = {"cifar": "cifar100", "imagenet": "imagenet2012"}


def entries() -> Iterator[tuple[str, int]]:
    """Every preset by every S it has."""
    for name in PRESETS:
        for splits in PRESETS[name].family.SPLITS:
            yield name, splits


def entry(model: str, splits: int) -> dict[str, Any]:
    """What is golden of an audit: what changed, and what a branch costs."""
    dataset = DATASETS[PRESETS[model].family.LAYOUT]
    report = audit.one(config.from_values({"model": model, "splits": splits, "dataset": dataset}))
    kept = ("model", "splits", "dataset", "changes", "regularisation")
    return {**{name: report[name] for name in kept}, **report["branches"][0]}


def main() -> None:
    lines = ",\n".join(json.dumps(entry(model, splits)) for model, splits in entries())
    PATH.write_text(f'{{"format": 1, "divisions": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
