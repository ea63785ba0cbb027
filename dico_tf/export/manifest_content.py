"""Content of the manifest and of the model card of an exported run."""

import hashlib
import importlib.metadata
import json
from typing import Any

from dico_tf import __version__
from dico_tf.committee import serialization
from dico_tf.committee.decision import Committee
from dico_tf.cotrain.dico import DiCo
from dico_tf.errors import UserError
from dico_tf.export import card as cards
from dico_tf.export.comparison_images import ComparisonImages
from dico_tf.export.graph import ExportMember
from dico_tf.files.json_files import read_of_run
from dico_tf.files.manifest import COMMITTEE
from dico_tf.files.member_kinds import RUN
from dico_tf.models.audit import audit
from dico_tf.models.presets import find
from dico_tf.training.build import TrainedRun
from dico_tf.training.workdir import run_identity

PACKAGES = ("tensorflow", "keras", "ai-edge-litert", "numpy")


def branch_costs(run: TrainedRun) -> list[dict[str, int]]:
    """Return the costs of each branch: "params", its parameters, and "macs", multiply-adds of one image."""
    config, data = run.config, run.data
    network = find(run.reference or config.network.model)
    return audit(config, data["image_size"], len(data["class_names"]), network)["branches"]


def member_entry(run: TrainedRun, member: ExportMember) -> dict[str, Any]:
    """Return a member's entry of the manifest, in which files and metrics are still empty."""
    branches = branch_costs(run)
    if member.name != COMMITTEE:
        branches = [branches[int(member.name.removeprefix("branch_"))]]
    return {
        "name": member.name,
        "kind": COMMITTEE if member.name == COMMITTEE else RUN,
        "input_size": member.image_size,
        "short_side": member.short_side,
        "class_names": list(member.class_names),
        "params": sum(branch["params"] for branch in branches),
        "macs": sum(branch["macs"] for branch in branches),
        "files": {},
        "metrics": {},
    }


def run_manifest(
    run: TrainedRun,
    model: DiCo,
    members: list[dict[str, Any]],
    images: ComparisonImages,
    cascade: Committee | None = None,
) -> dict[str, Any]:
    """Return the content of manifest.json.

    Args:
        members: manifest entries of all branches and of their committee.
        images: the images on which files were compared with their networks.
        cascade: order and gates of the branches, written as they are; None = no cascade.
    """
    data, average = run.data, run.config.cotraining.average
    names = [entry["name"] for entry in members if entry["name"] != COMMITTEE]
    return {
        "id": identity(run, model),
        "input": {
            "name": "image",
            "dtype": "float32",
            "range": [0, 255],
            "size": data["image_size"],
            "short_side": run.short_side,
        },
        "members": members,
        "committee": {
            "members": names,
            "average": average,
            "temperature": 1.0,
            "cascade": cascade and serialization.cascade(cascade),
        },
        "comparison": {
            "split": images.split,
            "images": 0 if images.images is None else len(images.images),
            "calibration": {"images": images.calibration_images, "sha256": images.calibration_sha256},
        },
        "source": _source(run),
        "made_by": {"dico_tf": __version__, **{name: importlib.metadata.version(name) for name in PACKAGES}},
    }


def identity(run: TrainedRun, model: DiCo) -> str:
    """Return the id of an export. Answers of two exports may be averaged together only if their ids are the same.

    It is a hash of weights, class names, preprocessing and kind of average.
    """
    data = run.data
    settings = [data["image_size"], run.short_side, data["class_names"], data["mean"], data["std"], model.average]
    digest = hashlib.sha256(json.dumps(settings).encode())
    for name in sorted(run.arrays):
        digest.update(f"\0{name}\0".encode() + run.arrays[name].tobytes())
    return digest.hexdigest()[:16]


def _source(run: TrainedRun) -> dict[str, Any]:
    """Return the description of the run, without paths of the machine that trained it."""
    config = run.config
    return {
        "run": run.workdir.resolve().name,
        "model": find(run.reference or config.network.model).name,
        "splits": config.network.splits,
        "division": config.network.division,
        "dataset": run.data["name"],
        "fingerprint": run.data["fingerprint"],
        "config": run_identity(config),
        **{name: run.best.get(name) for name in ("epoch", "select", "weights")},
    }


def run_card(run: TrainedRun, content: dict[str, Any]) -> str:
    """Return the model card as Markdown, from the manifest and, if the run has one, its test evaluation."""
    try:
        test = read_of_run(run.workdir / "evaluation_test.json")
    except UserError:
        test = None
    return cards.card(content, run.data, test)
