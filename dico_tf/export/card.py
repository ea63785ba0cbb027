"""Model card (README.md) of an exported run: networks, data, metrics and limits."""

from collections.abc import Iterable
from typing import Any

from dico_tf.evaluation.table import per_class
from dico_tf.files.manifest import COMMITTEE
from dico_tf.formulas.averages import AVERAGES

_LICENCES = {
    "digits": "Optical Recognition of Handwritten Digits (E. Alpaydin, C. Kaynak; UCI), CC BY 4.0",
    "cifar10": "CIFAR-10 (A. Krizhevsky, 2009); its authors state no licence",
    "cifar100": "CIFAR-100 (A. Krizhevsky, 2009); its authors state no licence",
}
_LATER = {"balanced_accuracy": "balanced accuracy", "macro_f1": "macro F1"}  # scores that older evaluations lack
_UNKNOWN = "unknown; ask the source of the images"


def card(content: dict[str, Any], data: dict[str, Any], test: dict[str, Any] | None) -> str:
    """Return the card as Markdown, from the manifest, the run's data and its test evaluation (None = not evaluated)."""
    return "\n\n".join([_summary(content), _data(content, data), _metrics(content, test), _limits(content)]) + "\n"


def _summary(content: dict[str, Any]) -> str:
    source, committee = content["source"], content[COMMITTEE]
    branches, size = len(committee["members"]), content["members"][0]["input_size"]
    members = [member for member in content["members"] if member["name"] != COMMITTEE]
    params, macs = (_listed(member[name] for member in members) for name in ("params", "macs"))
    return f"""# {source["model"]} in {_count(branches, "branch", "branches")}, trained on {source["dataset"]}

{_count(branches, "network", "networks")} of {params} parameters and {macs} multiply-adds, \
co-trained by dico_tf; the committee answers with the {AVERAGES[committee["average"]].help}.
Each takes RGB images of {size}x{size} pixels, 0 to 255, under the name `image`, and normalises them itself. \
`manifest.json` lists every file with its checksum."""


def _listed(numbers: Iterable[int]) -> str:
    """Return the numbers as text, each once: [1200, 3400, 1200] -> "1,200 and 3,400"."""
    return " and ".join(f"{number:,}" for number in dict.fromkeys(numbers))


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _data(content: dict[str, Any], data: dict[str, Any]) -> str:
    sizes = ", ".join(f"{count:,} {name}" for name, count in data["sizes"].items())
    names = content["members"][0]["class_names"]
    listed = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    entry = content["input"]
    margin = entry["short_side"] > entry["size"]
    used = f"\nTrained on {_trained_on(data['trained_on'])}." if "trained_on" in data else ""
    resized = f"resized to a short side of {entry['short_side']} pixels, then " if margin else ""
    return f"""## Data

{data["name"]}: {sizes} images of {_count(len(names), "class", "classes")}: {listed}.{used}
Images are {resized}cropped to the central square.
Licence of the data: {_LICENCES.get(data["name"], _UNKNOWN)}."""


def _trained_on(used: dict[str, Any]) -> str:
    noise = f", {used['label_noise']:.0%} of the training labels made wrong on purpose" if used["label_noise"] else ""
    return f"{used['images']:,} of the train images{noise}"


def _metrics(content: dict[str, Any], test: dict[str, Any] | None) -> str:
    lines = ["## Metrics", ""]
    comparison = content["comparison"]
    if comparison["images"]:
        lines += [
            f"On {comparison['images']:,} {comparison['split']} images; ms: one image on one thread of the exporting "
            "machine.",
            "",
        ]
        lines += [
            "| member | file | MB | accuracy | NLL | ECE | largest difference | ms |",
            "|---|---|---|---|---|---|---|---|",
        ]
        lines += [line for member in content["members"] for line in _rows(member)]
        lines += [
            _row("branches together", _kinds(scores), scores) for scores in comparison["ensemble_of_branches"].values()
        ]
        lines += ["", *_instead(content["members"])]
    if "cascade" in comparison:
        lines += [_cascade(content), ""]
    if test:
        ensemble = test["ensemble"]
        more = "".join(f", {title} {ensemble[name]:.2%}" for name, title in _LATER.items() if name in ensemble)
        lines.append(
            f"On the {test['split']} images the ensemble reached {100 * ensemble['top1']:.2f} % "
            f"(NLL {ensemble['nll']:.4f}, ECE {ensemble['ece']:.4f}{more}); "
            f"its best epoch was chosen on the {test['select']} images."
        )
        lines += _classes(test)
    else:
        lines.append("No test images have been evaluated.")
    return "\n".join(lines).rstrip()


def _classes(test: dict[str, Any]) -> list[str]:
    """Return a table of the ensemble's accuracy on the test images of each class; [] for an evaluation without it."""
    rows = [
        f"| {name.replace('|', chr(92) + '|')} | {'-' if images is None else f'{images:,}'} | "
        f"{'-' if share is None else f'{share:.2%}'} |"
        for name, images, share in per_class(test)
    ]
    return ["", "| class | images | accuracy |", "|---|---|---|", *rows] if rows else []


def _cascade(content: dict[str, Any]) -> str:
    scores, order = content["comparison"]["cascade"], content[COMMITTEE]["cascade"]["order"]
    shares = ", ".join(f"{name} on {reach:.1%}" for name, reach in zip(order, scores["reach"], strict=True))
    return (
        f"As a cascade that stops early ({shares} of these images) the committee reaches {scores['top1']:.2%} "
        f"(NLL {scores['nll']:.4f}, ECE {scores['ece']:.4f}) with {scores['macs']:,.0f} multiply-adds an image."
    )


def _rows(member: dict[str, Any]) -> list[str]:
    kinds = [kind for kind in ("keras", *member["files"]) if kind in member["metrics"]]
    sizes = {kind: file["bytes"] for kind, file in member["files"].items()}
    return [_row(member["name"], kind, member["metrics"][kind], sizes.get(kind)) for kind in kinds]


def _row(name: str, kind: str, scores: dict[str, Any], size: int | None = None) -> str:
    cells = [
        name,
        kind,
        "-" if size is None else f"{size / 1e6:.2f}",
        _cell(scores, "top1", "{:.2%}"),
        _cell(scores, "nll", "{:.4f}"),
        _cell(scores, "ece", "{:.4f}"),
        _cell(scores, "largest_difference", "{:.1e}"),
        _cell(scores, "milliseconds", "{:.2f}"),
    ]
    return f"| {' | '.join(cells)} |"


def _kinds(scores: dict[str, Any]) -> str:
    return " and ".join(sorted(set(scores["files"].values())))


def _instead(members: list[dict[str, Any]]) -> list[str]:
    changes = [(m["name"], *change) for m in members for change in m.get("instead", {}).items()]
    lines = [
        f"{name}: {kind} instead of {requested}, which could not be converted, or loses too much accuracy, alone or in "
        "the ensemble."
        for name, requested, kind in changes
    ]
    return [*lines, ""] if lines else []


def _cell(scores: dict[str, float], name: str, form: str) -> str:
    return form.format(scores[name]) if name in scores else "-"


def _limits(content: dict[str, Any]) -> str:
    return """## Limits

The networks know the classes above and nothing else: an image of anything else gets one of them, often with high \
probability. Accuracy on images unlike the training images has not been measured. The committee's `disagreement` \
(nats) is higher where the branches differ; it is a hint, not a guarantee."""
