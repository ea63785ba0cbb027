"""A committee.json as gates for a run's branches: whether it fits them, and what it does to them."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dico_tf.committee import costs as prices
from dico_tf.committee import saved
from dico_tf.committee.decision import Committee, decide
from dico_tf.errors import UserError
from dico_tf.export import litert
from dico_tf.export.comparison_images import ComparisonImages
from dico_tf.files.member_kinds import RUN
from dico_tf.training.build import TrainedRun


def load_committee(path: str | Path, run: TrainedRun) -> Committee:
    """UserError where it is of other members or classes; a warning where the branches are no longer the same."""
    found = saved.load(path)
    branches, classes = list(run.checksums), run.data["class_names"]
    strangers = [name for name in found.committee.members if name not in branches]
    if strangers:
        raise UserError(
            f"--committee={path} asks {', '.join(strangers)}, and {run.workdir} has {', '.join(branches)}: an export "
            "holds one run's branches; search among them"
        )
    if found.classes != len(classes) or (found.class_names is not None and list(found.class_names) != list(classes)):
        raise UserError(f"--committee={path} answers with other classes than {run.workdir}: search with its own logits")
    sizes = {
        member.name: member.input_size
        for member in found.members
        if member.kind == RUN and member.input_size != run.data["image_size"]
    }
    for name, size in sizes.items():
        raise UserError(f"--committee={path} has {name} at {size} pixels, and here it takes {run.data['image_size']}")
    if warning := saved.stale(found, run.checksums):
        logging.getLogger(__name__).warning("--committee=%s: %s", path, warning)
    return found.committee


def measure_cascade(
    committee: Committee, material: ComparisonImages, costs: Sequence[Mapping[str, int]]
) -> dict[str, Any]:
    """On the images of the comparison: top1, nll, ece, how many came to each member, and what an image took."""
    places = [int(name.removeprefix("branch_")) for name in committee.members]
    found = decide(committee, material.logits[:, places])
    return {
        **litert.scores(found.logits, material.labels),
        "reach": prices.reach(found.stage, len(places)).tolist(),
        "macs": prices.average([costs[s]["macs"] for s in places], found.stage),
    }
