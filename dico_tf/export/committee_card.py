"""Model card (README.md) of an exported committee."""

from typing import Any

from dico_tf.committee.committee_file import CommitteeFile
from dico_tf.committee.show import results_text
from dico_tf.evaluation.table import table
from dico_tf.files.manifest import COMMITTEE


def card(content: dict[str, Any], saved: CommitteeFile, missing: str) -> str:
    """Return the card as Markdown.

    Args:
        content: of manifest.json.
        saved: the exported committee.json.
        missing: clause on why there is no SavedModel of the whole committee; "" = there is one.
    """
    return "\n\n".join([_summary(content, saved), _members(content), _decision(saved, missing), _limits()]) + "\n"


def _summary(content: dict[str, Any], saved: CommitteeFile) -> str:
    names = content[COMMITTEE]["members"]
    classes = content["members"][0]["class_names"]
    listed = ", ".join(classes[:20]) + (f" and {len(classes) - 20} more" if len(classes) > 20 else "")
    count = "1 member" if len(names) == 1 else f"{len(names)} members"
    return f"""# A committee of {", ".join(names)}

{count}, put together by dico_tf, each with its own image size; {saved.classes} classes: {listed}.
`manifest.json` lists every file with its checksum. Where these networks come from, what they learnt and under which \
licences is not known."""


def _members(content: dict[str, Any]) -> str:
    head = ["member", "kind", "files", "MB", "pixels", "multiply-adds", "parameters"]
    rows = [
        [
            member["name"],
            member["kind"],
            ", ".join(member["files"]),
            ", ".join(f"{file['bytes'] / 1e6:.2f}" for file in member["files"].values()),
            str(member["input_size"]),
            _count(member["macs"]),
            _count(member["params"]),
        ]
        for member in content["members"]
        if member["name"] != COMMITTEE
    ]
    return "## Members\n\n```\n" + table(head, rows, range(3, 7)) + "\n```"


def _count(number: int) -> str:
    return f"{number:,}" if number else "unknown"


def _decision(saved: CommitteeFile, missing: str) -> str:
    calibration = saved.calibration
    lines = [
        "## What it does",
        f"Gates were fitted to {calibration.images:,} images of {calibration.name}.",
        f"```\n{results_text(saved)}\n```" if saved.results else "",
        f"There is {missing}." if missing else "",
    ]
    return "\n\n".join(filter(None, lines))


def _limits() -> str:
    return """## Limits

The committee knows the classes above and nothing else. Its gates are valid only for these networks, and for images \
like those they were fitted to."""
