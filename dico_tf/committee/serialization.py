"""A committee's rules as JSON, in committee.json and in manifest.json; infinite gates are "never" and "always"."""

import sys
from collections.abc import Mapping
from typing import Any

from dico_tf.committee.decision import ALWAYS, NEVER, Committee
from dico_tf.errors import UserError

_GATES = {"never": NEVER, "always": ALWAYS}  # of gates
_WORDS = {gate: word for word, gate in _GATES.items()}
_LARGEST = sys.float_info.max  # JSON may have larger numbers, which Python reads as infinity
TIES = "a confidence equal to the gate stops"


def rules(committee: Committee) -> dict[str, Any]:
    """Return a committee as JSON, without its members."""
    return {
        "gates": [_WORDS.get(gate, gate) for gate in committee.gates],
        "confidence": committee.confidence,
        "average": committee.average,
        "weights": list(committee.weights),
        "temperatures": list(committee.temperatures),
    }


def cascade(committee: Committee) -> dict[str, Any]:
    """Return a committee as the JSON object `cascade` of a manifest: `order`, its members' names, and its rules."""
    return {"order": list(committee.members), **rules(committee)}


def committee(content: Mapping[str, Any], order: str = "order") -> Committee:
    """Return the committee that JSON describes; `order` is the key of the members' names.

    Raises:
        UserError: names the first key that is wrong, or that contradicts another.
    """
    if fault := next(_faults(content, order), ""):
        raise UserError(fault)
    return Committee(
        members=tuple(content[order]),
        gates=tuple(_GATES[gate] if isinstance(gate, str) else float(gate) for gate in content["gates"]),
        confidence=content["confidence"],
        average=content["average"],
        weights=tuple(map(float, content["weights"])),
        temperatures=tuple(map(float, content["temperatures"])),
    )


def _faults(content: Mapping[str, Any], order: str):
    for key in (order, "gates", "weights", "temperatures"):
        if not isinstance(content.get(key), list):
            yield f"{key} must be a list, got {content.get(key)!r}"
    for name in content[order]:
        if not isinstance(name, str) or not name:
            yield f"{order} must be names of members, which are strings of at least one character, got {name!r}"
    for gate in content["gates"]:
        if not _number(gate) and not (isinstance(gate, str) and gate in _GATES):
            yield f"gates must be finite numbers or {' or '.join(map(repr, _GATES))}, got {gate!r}"
    for key in ("weights", "temperatures"):
        for value in content[key]:
            if not _number(value):
                yield f"{key} must be finite numbers, got {value!r}"
    for key in ("confidence", "average"):
        if not isinstance(content.get(key), str):
            yield f"{key} must be a name, got {content.get(key)!r}"


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST
