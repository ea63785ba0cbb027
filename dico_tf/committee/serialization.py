"""A committee's rules as JSON says them, in committee.json and in an export's manifest; infinity is no number there."""

import sys
from collections.abc import Mapping
from typing import Any

from dico_tf.committee.decision import ALWAYS, NEVER, Committee
from dico_tf.errors import UserError

_WORDS = {"never": NEVER, "always": ALWAYS}  # of gates
_SPOKEN = {gate: word for word, gate in _WORDS.items()}
_LARGEST = sys.float_info.max  # JSON has numbers beyond
TIES = "a confidence equal to the gate stops"


def rules(committee: Committee) -> dict[str, Any]:
    """All but the members."""
    return {
        "gates": [_SPOKEN.get(gate, gate) for gate in committee.gates],
        "confidence": committee.confidence,
        "average": committee.average,
        "weights": list(committee.weights),
        "temperatures": list(committee.temperatures),
    }


def cascade(committee: Committee) -> dict[str, Any]:
    """As a manifest says it."""
    return {"order": list(committee.members), **rules(committee)}


def committee(said: Mapping[str, Any], order: str = "order") -> Committee:
    """UserError that names what is wrong; `order`: the key under which the members' names stand."""
    if fault := next(_faults(said, order), ""):
        raise UserError(fault)
    return Committee(
        members=tuple(said[order]),
        gates=tuple(_WORDS[gate] if isinstance(gate, str) else float(gate) for gate in said["gates"]),
        confidence=said["confidence"],
        average=said["average"],
        weights=tuple(map(float, said["weights"])),
        temperatures=tuple(map(float, said["temperatures"])),
    )


def _faults(said: Mapping[str, Any], order: str):
    for key in (order, "gates", "weights", "temperatures"):
        if not isinstance(said.get(key), list):
            yield f"{key} is {said.get(key)!r}, expected a list"
    for name in said[order]:
        if not isinstance(name, str) or not name:
            yield f"{name!r} in {order} is no member's name"
    for gate in said["gates"]:
        if not _number(gate) and not (isinstance(gate, str) and gate in _WORDS):
            yield f"{gate!r} in gates is neither a number nor {' nor '.join(_WORDS)}"
    for key in ("weights", "temperatures"):
        for value in said[key]:
            if not _number(value):
                yield f"{value!r} in {key} is no number"
    for key in ("confidence", "average"):
        if not isinstance(said.get(key), str):
            yield f"{key} is {said.get(key)!r}, expected a name"


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST
