"""Report of a division: what it changes and costs, as a JSON object, as text and as a table."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from dico_tf.config import Config, Data
from dico_tf.data.known_datasets import CIFAR_LARGEST, CLIPS, TRAINING_IMAGES, shape
from dico_tf.divide.budget import OFF_TARGET
from dico_tf.divide.networks.cost import NetworkCost
from dico_tf.errors import UserError
from dico_tf.files.json_files import FORMAT
from dico_tf.models import evidence, published_results
from dico_tf.models.branch_list import BranchList, ListedBranch
from dico_tf.models.presets import PRESETS, branch_weight_decay, find, whole_weight_decay


def audit(
    config: Config, image_size: int, classes: int, network: Any = None, training_images: int = 0
) -> dict[str, Any]:
    """Return the object that `divide.py --json` prints.

    Args:
        image_size, classes: the size and number of classes at which costs are counted.
        network: the network to divide, or a list of branches; None = the network that --model names.
        training_images: their number; 0 = that of the data set, if it is a known one.
    """
    splits, network = config.network.splits, network or find(config.network.model)
    if network.task == "video":
        network = network.with_frames(config.data.frames)
    network = network.with_drop_path(config.network.drop_path)
    division = network.division(config.network.division)
    branches = network.branches(splits, division, image_size, classes)
    whole, costs = network.cost(image_size, classes), [branch.cost(image_size, classes) for branch in branches]
    changes, rates = network.differences(branches)
    images = training_images or TRAINING_IMAGES.get(config.data.dataset, 0)
    return {
        "format": FORMAT,
        "model": network.name,
        "splits": splits,
        "division": division,
        **_distance(division, whole, costs),
        "dataset": config.data.dataset,
        **({"frames": network.spec.frames} if network.task == "video" else {}),
        "image_size": image_size,
        "classes": classes,
        "changes": changes,
        "branches": [
            {**_listed(branch), "params": cost.params, "macs": cost.macs}
            for branch, cost in zip(branches, costs, strict=True)
        ],
        "total_params": sum(cost.params for cost in costs),
        "total_macs": sum(cost.macs for cost in costs),
        "whole_params": whole and whole.params,
        "whole_macs": whole and whole.macs,
        "weight_decay": _weight_decay(config, image_size),
        "regularisation": rates,
        "warning": _warning(division, whole, costs),
        "advice": _advice(config, network, division, costs[0].params, image_size, images),
    }


def _listed(branch: Any) -> dict[str, Any]:
    """Return name and image size of a branch of --branches; {} for a branch of a division."""
    return {"name": branch.name, "image_size": branch.image_size} if isinstance(branch, ListedBranch) else {}


def _distance(division: str, whole: NetworkCost | None, costs: Sequence[NetworkCost]) -> dict[str, float]:
    """Return {"distance": cost of all branches / cost of the whole - 1}, in params or macs.

    {} if `division` is not params or macs, or if there is no whole.
    """
    if division not in ("params", "macs") or whole is None:
        return {}
    return {"distance": sum(getattr(cost, division) for cost in costs) / getattr(whole, division) - 1}


def _warning(division: str, whole: NetworkCost | None, costs: Sequence[NetworkCost]) -> str | None:
    """Return a phrase about branches that together are more than 10 % off their budget; None for any others.

    The budget is the whole's multiply-adds for macs, and its parameters for any other division. A list of branches
    has no budget.
    """
    if division == "listed" or whole is None:
        return None
    measure, noun = ("macs", "multiply-adds") if division == "macs" else ("params", "parameters")
    total = sum(getattr(cost, measure) for cost in costs)
    if abs(total / getattr(whole, measure) - 1) <= OFF_TARGET:
        return None
    share, remedy = _share(total, getattr(whole, measure)), ", or --division=params" if division == "published" else ""
    return f"the branches together have {share} of the whole's {noun}; give another --splits{remedy}"


def _advice(
    config: Config, network: Any, division: str, branch_params: int, image_size: int, training_images: int
) -> evidence.Advice | None:
    """Return what published results say about the division; see `evidence.advise`."""
    if division == "listed" and config.network.splits > 1:
        return evidence.without_division()
    return evidence.advise(
        evidence.Division(
            model=network.name,
            family=network.family_name,
            task=network.task,
            splits=config.network.splits,
            published=division == "published",
            branch_params=branch_params,
            dataset=config.data.dataset,
            image_size=image_size,
            training_images=training_images,
            pretrained=bool(config.run.init_from),
        )
    )


def remarks(report: dict[str, Any]) -> list[str]:
    """Return the warning and the advice of an audit as lines of text, as far as there are any."""
    lines = [f"warning: {report['warning']}"] if report["warning"] else []
    if advice := report["advice"]:
        source = f" [{advice['source']}]" if advice["source"] else ""
        lines.append(f"published evidence: {advice['text']}{source}")
    return lines


def _weight_decay(config: Config, image_size: int) -> dict[str, Any]:
    whole, branch = whole_weight_decay(config, image_size), branch_weight_decay(config, image_size)
    return {"whole": whole, "branch": branch, "rule": config.optimisation.weight_decay_division}


def one(config: Config, listed: BranchList | None = None) -> dict[str, Any]:
    """Return `audit` for the network, image size and classes of a config, without loading data.

    Args:
        listed: the networks that --branches names; None without the flag.
    """
    network, data = listed or find(config.network.model), config.data
    if network.task == "video":
        return _of_clips(config, network)
    image_size = data.image_size or (listed.image_size if listed else 0)
    return audit(config, *shape(data.dataset, image_size, data.classes), network)


def _of_clips(config: Config, network: Any) -> dict[str, Any]:
    """Return the audit of a video network. If --dataset has its default, a set of images, Kinetics-400 is used.

    Raises UserError if --classes is 0 and --dataset is no known set of clips.
    """
    data = config.data
    dataset = "kinetics400" if data.dataset == Data().dataset else data.dataset
    classes = data.classes or CLIPS.get(dataset, 0)
    if not classes:
        raise UserError(
            f"--dataset={dataset}: expected a known set of clips ({', '.join(CLIPS)}); give one of them, or --classes"
        )
    config = dataclasses.replace(config, data=dataclasses.replace(data, dataset=dataset, task="video"))
    return audit(config, data.image_size or network.spec.crop, classes)


def every(config: Config) -> Iterator[dict[str, Any]]:
    """Yield the audit of each preset for the config's task, data set and image size, for each S that its Spec lists."""
    task = "video" if config.data.dataset in CLIPS else config.data.task
    image_size, layout = 0, task
    if task == "classification":
        image_size, _ = shape(config.data.dataset, config.data.image_size, config.data.classes)
        layout = "cifar" if image_size <= CIFAR_LARGEST else "imagenet"
    for preset in PRESETS.values():
        fits = layout == preset.layout(image_size) and preset.accepts(image_size or config.data.image_size)
        for splits in preset.spec.splits if fits else ():
            network = dataclasses.replace(config.network, model=preset.name, splits=splits)
            yield one(dataclasses.replace(config, network=network))


def _share(part: int, whole: int | None) -> str:
    """Return a share in percent, or - if the whole is 0 or None."""
    return f"{100 * part / whole:.1f}%" if whole else "-"


def _by(report: dict[str, Any]) -> str:
    """Return how a network was divided: "published rule", or "by params, +0.12% from the whole's"."""
    if report["division"] == "published":
        return "rule of this project" if "frames" in report else "published rule"
    return f"by {report['division']}, {100 * report['distance']:+.2f}% from the whole's"


def _title(branch: dict[str, Any]) -> str:
    """Return the name and image size of a branch of --branches; "one branch" for one of a division."""
    if "name" not in branch:
        return "one branch"
    size = branch["image_size"]
    return f"{branch['name'].removesuffix(f'@{size}')} at {size}"


def describe(report: dict[str, Any]) -> str:
    """Return the audit as text."""
    r = report
    changes = {**r["changes"], **r["regularisation"]}
    decay, listed = r["weight_decay"], "name" in r["branches"][0]
    distinct = r["branches"] if listed else r["branches"][:1]
    rows = [(_title(branch), branch["params"], branch["macs"]) for branch in distinct]
    rows.append((f"{r['splits']} branches together", r["total_params"], r["total_macs"]))
    if r["whole_params"] is not None:
        rows.append(("the whole", r["whole_params"], r["whole_macs"]))
    title = f"{r['splits']} branches" if listed else f"{r['model']} divided by {r['splits']} ({_by(r)})"
    width = max(22, *(len(name) + 2 for name, *_ in rows))
    lines = [
        f"{title}, {r['dataset']}: {_size(r)}, {r['classes']} classes",
        *(f"  {name}: {_words(before)} -> {_words(after)}" for name, (before, after) in changes.items()),
        f"  weight decay: {decay['whole']:g} -> {decay['branch']:g} (rule: {decay['rule']})",
        "",
        f"  {'':{width}}{'parameters':>14}{'of whole':>10}{'multiply-adds':>18}{'of whole':>10}",
    ]
    for name, params, macs in rows:
        lines.append(
            f"  {name:{width}}{params:>14,}{_share(params, r['whole_params']):>10}"
            f"{macs:>18,}{_share(macs, r['whole_macs']):>10}"
        )
    each = "clip" if "frames" in r else "image"
    last = f"Multiply-adds of convolutions, dense layers and attention, per {each}; papers call them FLOPs."
    more = remarks(report)
    return "\n".join([*lines, "", last, *([""] if more else []), *more])


def _size(report: dict[str, Any]) -> str:
    frames = f"{report['frames']} frames of " if "frames" in report else ""
    return f"{frames}{report['image_size']}x{report['image_size']} pixels"


COLUMNS = ("network", 24), ("S", 2), ("changes", 62), ("parameters", 11), ("published", 9), ("G", 6), ("published", 9)


def table(config: Config) -> Iterator[str]:
    """Yield the lines of a Markdown table: the audits that `every` yields, beside the published figures."""
    yield _line([name for name, _ in COLUMNS], "error %")
    yield _line(["-" * width for _, width in COLUMNS], "-------")
    for report in every(config):
        *cells, error = _cells(report)
        yield _line(cells, error)


def _line(cells: list[str], last: str) -> str:
    words = ("network", "changes")
    sides = ["<" if name in words else ">" for name, _ in COLUMNS]
    padded = [f"{cell:{side}{width}}" for cell, side, (_, width) in zip(cells, sides, COLUMNS, strict=True)]
    return f"| {' | '.join(padded)} | {last:>7} |"


def _cells(report: dict[str, Any]) -> list[str]:
    row = published_results.find(report["dataset"], report["model"], report["splits"])
    same_size = row and row.image_size == report["image_size"]
    changes = {**report["changes"], **report["regularisation"]}
    return [
        report["model"],
        str(report["splits"]),
        "; ".join(f"{name} {_words(before)} -> {_words(after)}" for name, (before, after) in changes.items()),
        f"{report['total_params']:,}",
        f"{row.mparams:g} M" if row and row.mparams else "",
        f"{report['total_macs'] / 1e9:.3f}",
        f"{row.gmacs:g}" if row and same_size and row.gmacs else "",
        f"{row.error:.2f}" if row else "",
    ]


def _words(value: Any) -> str:
    """Return a number with four significant digits, or a list of widths as first..last.

    An empty list stands for the widths that the family computes by itself: "its own".
    """
    if not isinstance(value, list | tuple):
        return f"{value:.4g}"
    return f"{value[0]}..{value[-1]}" if value else "its own"
