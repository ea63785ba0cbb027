"""Inputs of a committee search for image classifiers: a run's predictions, a table of logits, or models to run."""

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dico_tf import startup
from dico_tf.committee import pool as pools
from dico_tf.committee.committee_file import SavedMember
from dico_tf.committee.options import Search
from dico_tf.committee.pool import Pool
from dico_tf.config import Data
from dico_tf.errors import UserError
from dico_tf.evaluation.cost import MEASURES, Cost, branch_costs
from dico_tf.files import arrays, atomic, checksums
from dico_tf.files import member_kinds as kinds
from dico_tf.files.json_files import read_of_run
from dico_tf.invocation import command
from dico_tf.registry import suggestion


class Inputs(NamedTuple):
    """Answers of all members to calibration and test images."""

    calibration: Pool
    test: Pool
    members: dict[str, SavedMember]  # by name
    class_names: tuple[str, ...] | None


def collect(options: Search, values: dict[str, Any]) -> Inputs:
    """Return the members' answers from the one source that is given: --workdir, --logits or --members.

    Raises UserError unless exactly one of them is given.

    Args:
        values: values of the flags that runs have, too, by name: workdir, dataset, seed and others.
    """
    given = [name for name in ("members", "logits") if getattr(options, name)] + ["workdir"] * bool(values["workdir"])
    if len(given) != 1:
        flags = " and ".join(f"--{name}" for name in given) or "none of them"
        raise UserError(f"expected one of --workdir (branches of a run), --logits (a table) and --members, got {flags}")
    if not 0 < options.calibration_share < 1:
        raise UserError(f"--calibration_share must be above 0 and below 1, got {options.calibration_share:g}")
    costs = read_costs(options.costs) if options.costs else {}
    of = {"members": _of_members, "logits": _of_table, "workdir": _of_run}[given[0]]
    inputs: Inputs = of(options, values, costs)
    if strangers := [member for member in costs if member not in inputs.calibration.logits]:
        raise UserError(
            f"--costs={options.costs} names {strangers[0]!r}, which is not a member; "
            f"{suggestion(strangers[0], inputs.calibration.members)}"
        )
    pools.apart(inputs.calibration, inputs.test)
    return inputs


def read_costs(path: str) -> dict[str, Cost]:
    """Read the file --costs: JSON {member: {macs, params, milliseconds}}; a measure that is left out is NaN."""
    try:
        content = json.loads(Path(path).read_bytes())
    except FileNotFoundError:
        raise UserError(f"--costs={path} does not exist: give a JSON file") from None
    except (OSError, ValueError) as error:
        raise UserError(f"--costs={path} cannot be read ({error}): give a JSON file") from None
    shape = f"--costs={path} must be {{member: {{{', '.join(MEASURES)}}}}}"
    if not isinstance(content, dict) or not all(isinstance(cost, dict) for cost in content.values()):
        raise UserError(f"{shape}, a JSON object of objects, got {content!r:.60}")
    for member, cost in content.items():
        for measure, value in cost.items():
            if measure not in MEASURES:
                raise UserError(f"{shape}, got {measure!r} for {member}; {suggestion(measure, MEASURES)}")
            number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            if not number or value < 0:
                raise UserError(f"{shape} with numbers of at least 0, got {measure}: {value!r} for {member}")
    return {member: Cost(**cost) for member, cost in content.items()}


def _of_table(options: Search, values: dict[str, Any], costs: dict[str, Cost]) -> Inputs:
    table = pools.read(options.logits, costs)
    if options.test_logits:
        calibration, test = table, pools.read(options.test_logits, costs)
        if set(test.members) != set(calibration.members):
            odd = sorted(set(test.members) ^ set(calibration.members))
            raise UserError(
                f"{options.logits} and {options.test_logits} must have the same members: only one of them has "
                f"{', '.join(odd)}"
            )
        _check_classes(calibration, test)
    else:
        calibration, test = table.random_split(options.calibration_share, values["seed"])
    members = {
        name: SavedMember(
            name=name, kind=kinds.TABLE, source=options.logits, sha256="", input_size=1, cost=costs.get(name, Cost())
        )
        for name in table.members
    }
    return Inputs(calibration, test, members, table.class_names)


def _check_classes(one: Pool, other: Pool) -> None:
    if one.classes != other.classes:
        raise UserError(
            f"{one.name} has {one.classes} classes and {other.name} {other.classes}: give tables of the same classes"
        )
    if one.class_names and other.class_names and one.class_names != other.class_names:
        place = next(n for n, (a, b) in enumerate(zip(one.class_names, other.class_names, strict=True)) if a != b)
        raise UserError(
            f"class {place} is {one.class_names[place]!r} in {one.name} and {other.class_names[place]!r} in "
            f"{other.name}: give tables of the same classes in the same order"
        )


def _of_run(options: Search, values: dict[str, Any], costs: dict[str, Cost]) -> Inputs:
    """Read the validation and test predictions that evaluate.py wrote into the folder --workdir."""
    workdir = Path(values["workdir"])
    summary = read_of_run(workdir / "summary.json")
    config = read_of_run(workdir / "config.json")
    if config.get("config", {}).get("task") == "segmentation":
        raise UserError(
            f"--workdir={workdir} is a segmentation run: use {command('committee scenes')} --members={workdir}"
        )
    own = {f"branch_{s}": cost for s, cost in enumerate(_costs_of_run(workdir, summary))}
    costs = {name: costs.get(name, cost).over(cost) for name, cost in own.items()}
    parts, evaluate = [], command("evaluate")
    for split in ("validation", "test"):
        path = workdir / f"predictions_{split}.npz"
        if not path.exists():
            raise UserError(f"{path} does not exist; run {evaluate} --workdir={workdir} --split={split} first")
        parts.append(pools.read(path, costs))
    data, sums = config["data"], of_branches(workdir)
    members = {
        name: SavedMember(
            name=name,
            kind=kinds.RUN,
            source=f"{workdir}:{name}",
            sha256=sums.get(name, ""),
            input_size=data["image_size"],
            cost=cost,
        )
        for name, cost in costs.items()
    }
    return Inputs(*parts, members, tuple(data["class_names"]))


def _check_distinct(members: Sequence[Any]) -> None:
    """Raise UserError if two members are one network, such as a copied file or one path spelt in two ways."""
    known: dict[str, Any] = {}
    for member in members:
        if (other := known.setdefault(member.checksum, member)) is not member:
            raise UserError(
                f"{other.name} ({other.source}) and {member.name} ({member.source}) are one network, with the same "
                "answers: give it once, or at two sizes"
            )


def of_branches(workdir: Path) -> dict[str, str]:
    """Return {"branch_0": sha256 of its best weights, ...} of a run; {} if the folder has no weights."""
    best = atomic.current(workdir / "best")
    return checksums.of_branches(arrays.read_part(best, "weights")) if best.exists() else {}


def _costs_of_run(workdir: Path, summary: dict[str, Any]) -> list[Cost]:
    """Return each branch's cost for one image, or for all evaluated views of one video; milliseconds are unknown.

    Raises UserError if the validation and the test split were evaluated with different views.
    """
    views = {split: _views(workdir / f"evaluation_{split}.json") for split in ("validation", "test")}
    if views["validation"] != views["test"]:
        seen = ", ".join(
            f"{split} by {v['clips']}x{v['crops']}" if v else f"{split} by none" for split, v in views.items()
        )
        raise UserError(
            f"--workdir={workdir} was evaluated with different views of its videos ({seen}): "
            f"run {command('evaluate')} for both splits with the same --test_views"
        )
    costs = [Cost(macs=cost["macs"], params=cost["params"]) for cost in branch_costs(summary)]
    if views["test"]:
        costs = [dataclasses.replace(cost, macs=views["test"]["macs"] / len(costs)) for cost in costs]
    return costs


def _views(path: Path) -> dict[str, Any]:
    return read_of_run(path).get("views", {}) if path.exists() else {}


def _of_members(options: Search, values: dict[str, Any], costs: dict[str, Cost]) -> Inputs:
    """Run the models of --members, or read their cached answers, on the images of --calibration and on the test images.

    If both are the test images, these are divided at random by --calibration_share.

    Args:
        values: the flags' values, as for `collect`.
        costs: {member: its cost in the file --costs}; measures that it leaves out are those of the model.
    """
    startup.tensorflow()
    from dico_tf.data import source as data
    from dico_tf.evaluation.members.cache import Cache, default
    from dico_tf.evaluation.members.collect_logits import collect_logits
    from dico_tf.evaluation.members.open_members import open_members

    names = ("dataset", "data_dir", "classes", "skip_unreadable", "skip_duplicates")
    settings = {name: values[name] for name in names}
    source = data.load(Data(**settings), values["seed"])
    members = open_members(options.members, len(source.class_names))
    _check_distinct(members)
    cache = Cache(Path(options.cache).expanduser() if options.cache else default())
    parts, outputs = [], {}
    chosen = options.calibration or ("val" if "val" in source.splits else "test")
    for split in dict.fromkeys((chosen, "test")):
        part = collect_logits(
            members, source, split, cache, timed=options.cost == "milliseconds" or bool(options.latency)
        )
        parts.append(
            Pool(
                logits=part.logits,
                labels=part.labels,
                ids=part.ids,
                costs={name: costs.get(name, own).over(own) for name, own in part.costs.items()},
                name=f"{source.name}, {split}",
            )
        )
        outputs |= {name: kind for name, kind in part.outputs.items() if kind}
    calibration, test = parts if len(parts) == 2 else parts[0].random_split(options.calibration_share, values["seed"])
    saved = {
        member.name: SavedMember(
            name=member.name,
            kind=member.kind,
            source=member.source,
            sha256=member.checksum,
            input_size=max(member.input_size, 1),
            cost=calibration.costs[member.name],
            outputs=outputs.get(member.name, ""),
        )
        for member in members
    }
    return Inputs(calibration, test, saved, source.class_names)
