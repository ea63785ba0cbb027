"""Where a search's answers come from: a run's predictions, a table of logits, or models that are asked now."""

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
from dico_tf.evaluation.cost import MEASURES, Cost
from dico_tf.files import arrays, atomic, checksums
from dico_tf.files import member_kinds as kinds
from dico_tf.files.json_files import read_of_run
from dico_tf.invocation import command
from dico_tf.registry import suggestion


class Inputs(NamedTuple):
    calibration: Pool
    test: Pool
    members: dict[str, SavedMember]  # what is known of each
    class_names: tuple[str, ...] | None


def collect(asked: Search, values: dict[str, Any]) -> Inputs:
    """`values`: the flags of a run and its data."""
    given = [name for name in ("members", "logits") if getattr(asked, name)] + ["workdir"] * bool(values["workdir"])
    if len(given) != 1:
        said = " and ".join(f"--{name}" for name in given) or "none of them"
        raise UserError(f"give one of --workdir (branches of a run), --logits (a table) and --members, not {said}")
    if not 0 < asked.calibration_share < 1:
        raise UserError(f"--calibration_share={asked.calibration_share:g} must be above 0 and below 1")
    costs = read_costs(asked.costs) if asked.costs else {}
    of = {"members": _of_members, "logits": _of_table, "workdir": _of_run}[given[0]]
    found: Inputs = of(asked, values, costs)
    if strangers := [member for member in costs if member not in found.calibration.logits]:
        raise UserError(f"--costs={asked.costs} names {strangers[0]!r}, which is no member; "
                        f"{suggestion(strangers[0], found.calibration.members)}")  # fmt: skip
    pools.apart(found.calibration, found.test)
    return found


def read_costs(path: str) -> dict[str, Cost]:
    """{member: {macs, params, milliseconds}}; a measure that is not there is not known."""
    try:
        content = json.loads(Path(path).read_bytes())
    except FileNotFoundError:
        raise UserError(f"--costs={path} does not exist") from None
    except (OSError, ValueError) as error:
        raise UserError(f"--costs={path} cannot be read: {error}") from None
    shape = f"--costs={path} must be {{member: {{{', '.join(MEASURES)}}}}}"
    if not isinstance(content, dict) or not all(isinstance(cost, dict) for cost in content.values()):
        raise UserError(shape)
    for member, cost in content.items():
        for measure, value in cost.items():
            number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            if measure not in MEASURES or not number or value < 0:
                raise UserError(f"{shape}, in numbers; of {member} it says {measure}: {value!r}")
    return {member: Cost(**cost) for member, cost in content.items()}


def _of_table(asked: Search, values: dict[str, Any], costs: dict[str, Cost]) -> Inputs:
    table = pools.read(asked.logits, costs)
    if asked.test_logits:
        calibration, test = table, pools.read(asked.test_logits, costs)
        if set(test.members) != set(calibration.members):
            odd = sorted(set(test.members) ^ set(calibration.members))
            raise UserError(f"{asked.logits} and {asked.test_logits} have not the same members: {', '.join(odd)}")
        _check_classes(calibration, test)
    else:
        calibration, test = table.halves(asked.calibration_share, values["seed"])
    members = {name: SavedMember(name=name, kind=kinds.TABLE, source=asked.logits, sha256="", input_size=1,
                            cost=costs.get(name, Cost())) for name in table.members}  # fmt: skip
    return Inputs(calibration, test, members, table.class_names)


def _check_classes(one: Pool, other: Pool) -> None:
    if one.classes != other.classes:
        raise UserError(f"{one.name} knows {one.classes} classes and {other.name} {other.classes}: it takes the same")
    if one.class_names and other.class_names and one.class_names != other.class_names:
        place = next(n for n, (a, b) in enumerate(zip(one.class_names, other.class_names, strict=True)) if a != b)
        raise UserError(
            f"class {place} is {one.class_names[place]!r} in {one.name} and {other.class_names[place]!r} in "
            f"{other.name}: it takes the same classes in the same order"
        )


def _of_run(asked: Search, values: dict[str, Any], costs: dict[str, Cost]) -> Inputs:
    """Fitted to the validation images, judged by the test images, both as evaluate.py left them."""
    workdir = Path(values["workdir"])
    summary = read_of_run(workdir / "summary.json")
    splits, kept = summary["splits"], read_of_run(workdir / "config.json")
    if kept.get("config", {}).get("task") == "segmentation":
        raise UserError(
            f"--workdir={workdir} classifies pixels: {command('committee scenes')} --members={workdir} takes it"
        )
    own = Cost(macs=_macs(workdir, summary) / splits, params=summary["params"]["branches"] / splits)
    costs = {f"branch_{s}": costs.get(f"branch_{s}", own).over(own) for s in range(splits)}
    parts, evaluate = [], command("evaluate")
    for split in ("validation", "test"):
        path = workdir / f"predictions_{split}.npz"
        if not path.exists():
            raise UserError(f"{path} does not exist: {evaluate} --workdir={workdir} --split={split} writes it")
        parts.append(pools.read(path, costs))
    data, sums = kept["data"], of_branches(workdir)
    members = {name: SavedMember(name=name, kind=kinds.RUN, source=f"{workdir}:{name}", sha256=sums.get(name, ""),
                            input_size=data["image_size"], cost=cost) for name, cost in costs.items()}  # fmt: skip
    return Inputs(*parts, members, tuple(data["class_names"]))


def _check_distinct(members: Sequence[Any]) -> None:
    """One network under two names, such as a copied file, or one path spelt in two ways."""
    known: dict[str, Any] = {}
    for member in members:
        if (other := known.setdefault(member.checksum, member)) is not member:
            raise UserError(f"{other.name} ({other.source}) and {member.name} ({member.source}) are one network, and "
                            "would say the same: give it once, or at two sizes")  # fmt: skip


def of_branches(workdir: Path) -> dict[str, str]:
    """sha256 of the weights of each branch of a run, as its export knows them; none where only predictions are left."""
    best = atomic.current(workdir / "best")
    return checksums.of_branches(arrays.read_part(best, "weights")) if best.exists() else {}


def _macs(workdir: Path, summary: dict[str, Any]) -> float:
    """All branches' multiply-adds of an item: of a film, of all the views whose logits were averaged."""
    found = {split: _views(workdir / f"evaluation_{split}.json") for split in ("validation", "test")}
    if found["validation"] != found["test"]:
        seen = ", ".join(f"{split} by {v['clips']}x{v['crops']}" if v else split for split, v in found.items())
        raise UserError(
            f"--workdir={workdir} was evaluated by different views of its films ({seen}): "
            f"run {command('evaluate')} for both splits with the same --test_views"
        )
    return found["test"]["macs"] if found["test"] else summary["macs"]["branches"]


def _views(path: Path) -> dict[str, Any]:
    return read_of_run(path).get("views", {}) if path.exists() else {}


def _of_members(asked: Search, values: dict[str, Any], costs: dict[str, Cost]) -> Inputs:
    """Models are asked now, or were before: fitted to the data's validation images, or else to a part of the test."""
    startup.tensorflow()
    from dico_tf.data import source as data
    from dico_tf.evaluation.members.cache import Cache, default
    from dico_tf.evaluation.members.collect_logits import collect_logits
    from dico_tf.evaluation.members.open_members import open_members

    told = {name: values[name] for name in ("dataset", "data_dir", "classes", "skip_unreadable")}
    source = data.load(Data(**told), values["seed"])
    members = open_members(asked.members, len(source.class_names))
    _check_distinct(members)
    cache = Cache(Path(asked.cache).expanduser() if asked.cache else default())
    parts, found, outputs = [], None, {}
    chosen = asked.calibration or ("val" if "val" in source.splits else "test")
    for split in dict.fromkeys((chosen, "test")):
        found = collect_logits(members, source, split, cache, timed=asked.cost == "milliseconds" or bool(asked.latency))
        known = {name: costs.get(name, own).over(own) for name, own in found.costs.items()}
        parts.append(Pool(logits=found.logits, labels=found.labels, ids=found.ids, costs=known,
                          name=f"{source.name}, {split}"))  # fmt: skip
        outputs |= {name: kind for name, kind in found.outputs.items() if kind}
    calibration, test = parts if len(parts) == 2 else parts[0].halves(asked.calibration_share, values["seed"])
    known = {
        member.name: SavedMember(name=member.name, kind=member.kind, source=member.source, sha256=member.checksum,
                            input_size=max(member.input_size, 1), cost=calibration.costs[member.name],
                            outputs=outputs.get(member.name, ""))
        for member in members
    }  # fmt: skip
    return Inputs(calibration, test, known, source.class_names)
