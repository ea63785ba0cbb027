"""A settings field that is also a flag: help text, choices, bounds, and the tasks and methods that use it."""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Bounds:
    """Allowed range of a number. `special` values outside of it are allowed, too: {value: meaning}."""

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    special: Mapping[float, str] = dataclasses.field(default_factory=dict)

    def __contains__(self, value: float) -> bool:
        return value in self.special or (
            (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.at_most is None or value <= self.at_most)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        limits = (
            ("at least", self.at_least),
            ("above", self.above),
            ("at most", self.at_most),
            ("below", self.below),
        )
        text = " and ".join(f"{word} {limit}" for word, limit in limits if limit is not None)
        special = " or ".join(f"{value}: {meaning}" for value, meaning in self.special.items())
        return f"{text} (or {special})" if special else text


def option(
    default: Any,
    help: str,
    choices: tuple[str, ...] = (),
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    special: Mapping[float, str] | None = None,
    task: str = "",
    methods: tuple[str, ...] = (),
    free: bool = False,
) -> Any:
    """Return a dataclass field that is also a flag.

    Args:
        help: text of `--help`.
        choices: allowed words; () = any value.
        at_least, above, at_most, below, special: see `Bounds`.
        task: the one task that uses the field; elsewhere it must keep its default. "" = every task uses it.
        methods: the methods that use the field; with others it must keep its default. () = every method uses it.
        free: the value may change when a run is continued.
    """
    bounds = Bounds(at_least, above, at_most, below, special or {})
    return dataclasses.field(
        default=default,
        metadata={
            "help": help,
            "choices": choices,
            "bounds": bounds if bounds != Bounds() else None,
            "task": task,
            "methods": methods,
            "free": free,
        },
    )
