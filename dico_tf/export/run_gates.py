"""A committee.json as the gates of a run's branches: load it, check that it fits, and measure the cascade."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dico_tf.committee import committee_file
from dico_tf.committee.decision import Committee, average_cost, decide, reach
from dico_tf.errors import UserError
from dico_tf.export import comparison
from dico_tf.export.comparison_images import ComparisonImages
from dico_tf.files.member_kinds import RUN
from dico_tf.training.build import TrainedRun


def load_committee(path: str | Path, run: TrainedRun) -> Committee:
    """Load a committee of some or all branches of a run.

    Warns if weights have changed since the search. Raises UserError if a member is no branch of the run, or if classes
    or image size differ.
    """
    file = committee_file.load(path)
    branches, classes = list(run.checksums), run.data["class_names"]
    unknown = [name for name in file.committee.members if name not in branches]
    if unknown:
        raise UserError(
            f"--committee={path} has the members {', '.join(unknown)}, and {run.workdir} has {', '.join(branches)}: "
            "give a committee of this run's branches"
        )
    if file.classes != len(classes) or (file.class_names is not None and list(file.class_names) != list(classes)):
        raise UserError(f"--committee={path} has other classes than {run.workdir}: search again with this run")
    sizes = {
        member.name: member.input_size
        for member in file.members
        if member.kind == RUN and member.input_size != run.data["image_size"]
    }
    if sizes:
        listed = ", ".join(f"{name} at {size} pixels" for name, size in sizes.items())
        raise UserError(
            f"--committee={path}: expected branches for images of {run.data['image_size']} pixels, as in "
            f"{run.workdir}, got {listed}: search again with this run"
        )
    if warning := committee_file.stale(file, run.checksums):
        logging.getLogger(__name__).warning("--committee=%s: %s", path, warning)
    return file.committee


def measure_cascade(
    committee: Committee, images: ComparisonImages, costs: Sequence[Mapping[str, int]]
) -> dict[str, Any]:
    """Measure a cascade of branches on the comparison images.

    `costs` has an entry with "macs" for each branch of the run, in their order, also for those not in the cascade.
    Returns top1, nll, ece, "reach" (the share of the images that each member ran on) and "macs" (mean of an image).
    """
    places = [int(name.removeprefix("branch_")) for name in committee.members]
    decided = decide(committee, images.logits[:, places])
    return {
        **comparison.scores(decided.logits, images.labels),
        "reach": reach(decided.stage, len(places)).tolist(),
        "macs": average_cost([costs[s]["macs"] for s in places], decided.stage),
    }
