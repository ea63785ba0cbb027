"""Write the goldens of divisions: python -m tests.models.write_goldens [FAMILY ...], all families by default.

Read the diff of tests/goldens/divisions.json before committing it.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dico_tf import config
from dico_tf.models import audit
from dico_tf.models.presets import PRESETS

PATH = Path(__file__).parents[1] / "goldens" / "divisions.json"
# data set: image size, classes (0 = the network's, the data set's own), layout of the presets that learn it
SHAPES = {
    "cifar100": (32, 100, "cifar"),
    "imagenet2012": (224, 1000, "imagenet"),
    "folder:cityscapes": (769, 19, "segmentation"),
    "folder:ade20k": (512, 150, "segmentation"),  # of networks that 769 pixels do not fit
    "kinetics400": (0, 0, "video"),
}


def entries() -> Iterator[tuple[str, str, int]]:
    """Every preset with the data sets of its layout, by each S it has."""
    for preset in PRESETS.values():
        for dataset, (image_size, _, layout) in SHAPES.items():
            if preset.layout(image_size) == layout and preset.fixed == (dataset == "folder:ade20k"):
                yield from ((preset.name, dataset, splits) for splits in preset.spec.splits)


def entry(model: str, dataset: str, splits: int) -> dict[str, Any]:
    """What is golden of an audit: what changed, and what a branch costs."""
    image_size, classes, _ = SHAPES[dataset]
    shape = {"dataset": dataset, "image_size": image_size, "classes": classes, "task": PRESETS[model].task}
    report = audit.one(config.from_values({"model": model, "splits": splits, **shape}))
    names = ("model", "splits", "dataset", "changes", "regularisation")
    result = {**{name: report[name] for name in names}, **report["branches"][0]}
    return json.loads(json.dumps(result))


def main(families: list[str]) -> None:
    before = json.loads(PATH.read_text())["divisions"]
    known = {(g["model"], g["dataset"], g["splits"]): g for g in before}
    same = {key for key in known if families and key[0] in PRESETS and PRESETS[key[0]].family_name not in families}
    lines = ",\n".join(json.dumps(known[key] if key in same else entry(*key)) for key in entries())
    PATH.write_text(f'{{"format": 1, "divisions": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main(sys.argv[1:])
