"""README.md of an export: what it is, of what data, how good, and what it is not for."""

from typing import Any

from dico_tf.files.manifest import COMMITTEE

_LICENCES = {
    "digits": "Optical Recognition of Handwritten Digits (E. Alpaydin, C. Kaynak; UCI), CC BY 4.0",
    "cifar10": "CIFAR-10 (A. Krizhevsky, 2009); its authors state no licence",
    "cifar100": "CIFAR-100 (A. Krizhevsky, 2009); its authors state no licence",
}
_UNKNOWN = "not known to this program: ask whoever the pictures are from"


def card(content: dict[str, Any], data: dict[str, Any], test: dict[str, Any] | None) -> str:
    """Markdown, from the manifest, the run's facts of its data and its test evaluation."""
    return "\n\n".join([_what(content), _data(content, data), _metrics(content, test), _limits(content)]) + "\n"


def _what(content: dict[str, Any]) -> str:
    source, committee = content["source"], content[COMMITTEE]
    branches, size = len(committee["members"]), content["members"][0]["input_size"]
    member = content["members"][0]
    return f"""# {source["model"]} in {_count(branches, "branch", "branches")}, trained on {source["dataset"]}

{_count(branches, "network", "networks")} of {member["params"]:,} parameters and {member["macs"]:,} multiply-adds, \
co-trained by dico_tf; the committee answers with the average of their {_AVERAGED[committee["average"]]}.
Each takes RGB pictures of {size}x{size} pixels, 0 to 255, under the name `image`, and normalises them itself. \
`manifest.json` lists every file with its checksum."""


_AVERAGED = {"logits": "logits", "probs": "probabilities", "max": "largest logits"}


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _data(content: dict[str, Any], data: dict[str, Any]) -> str:
    sizes = ", ".join(f"{count:,} {name}" for name, count in data["sizes"].items())
    names = content["members"][0]["class_names"]
    shown = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    entry = content["input"]
    margin = entry["short_side"] > entry["size"]
    cut = f"the short side becomes {entry['short_side']} pixels and " if margin else ""
    return f"""## Data

{data["name"]}: {sizes} images of {_count(len(names), "class", "classes")}: {shown}.
Of a picture {cut}the middle square is taken.
Licence of the data: {_LICENCES.get(data["name"], _UNKNOWN)}."""


def _metrics(content: dict[str, Any], test: dict[str, Any] | None) -> str:
    lines = ["## Metrics", ""]
    compared = content["comparison"]
    if compared["images"]:
        lines += [
            f"On {compared['images']:,} {compared['split']} images; time of one picture on the exporting machine.",
            "",
        ]
        lines += [
            "| member | file | MB | accuracy | NLL | ECE | largest difference | ms |",
            "|---|---|---|---|---|---|---|---|",
        ]
        lines += [line for member in content["members"] for line in _rows(member)]
        lines += [
            _row("branches together", _kinds(found), found) for found in compared["ensemble_of_branches"].values()
        ]
        lines += ["", *_instead(content["members"])]
    if "cascade" in compared:
        lines += [_cascade(content), ""]
    if test:
        ensemble = test["ensemble"]
        lines.append(
            f"On the {test['split']} images the ensemble reached {100 * ensemble['top1']:.2f} % "
            f"(NLL {ensemble['nll']:.4f}, ECE {ensemble['ece']:.4f}); "
            f"its best epoch was chosen on the {test['select']} images."
        )
    else:
        lines.append("No test images have been evaluated.")
    return "\n".join(lines).rstrip()


def _cascade(content: dict[str, Any]) -> str:
    found, order = content["comparison"]["cascade"], content[COMMITTEE]["cascade"]["order"]
    asked = ", ".join(f"{name} for {reach:.1%}" for name, reach in zip(order, found["reach"], strict=True))
    return (
        f"As a cascade that stops early (asked: {asked} of these images) the committee reaches {found['top1']:.2%} "
        f"(NLL {found['nll']:.4f}, ECE {found['ece']:.4f}) with {found['macs']:,.0f} multiply-adds an image."
    )


def _rows(member: dict[str, Any]) -> list[str]:
    kinds = [kind for kind in ("keras", *member["files"]) if kind in member["metrics"]]
    sizes = {kind: file["bytes"] for kind, file in member["files"].items()}
    return [_row(member["name"], kind, member["metrics"][kind], sizes.get(kind)) for kind in kinds]


def _row(name: str, kind: str, found: dict[str, Any], size: int | None = None) -> str:
    cells = [
        name,
        kind,
        "-" if size is None else f"{size / 1e6:.2f}",
        _cell(found, "top1", "{:.2%}"),
        _cell(found, "nll", "{:.4f}"),
        _cell(found, "ece", "{:.4f}"),
        _cell(found, "largest_difference", "{:.1e}"),
        _cell(found, "milliseconds", "{:.2f}"),
    ]
    return f"| {' | '.join(cells)} |"


def _kinds(found: dict[str, Any]) -> str:
    return " and ".join(sorted(set(found["files"].values())))


def _instead(members: list[dict[str, Any]]) -> list[str]:
    changes = [(m["name"], *change) for m in members for change in m.get("instead", {}).items()]
    lines = [
        f"{name} is {kind} where {asked} was asked for, which loses too much, by itself or together."
        for name, asked, kind in changes
    ]
    return [*lines, ""] if lines else []


def _cell(found: dict[str, float], name: str, form: str) -> str:
    return form.format(found[name]) if name in found else "-"


def _limits(content: dict[str, Any]) -> str:
    return """## Limits

It knows the classes above and nothing else: a picture of anything else gets one of them, often with high probability. \
How it does on pictures unlike those it was trained on has not been measured. The committee's `disagreement` (nats) is \
higher where the branches differ; it is a hint and no guarantee."""
