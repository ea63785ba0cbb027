"""Registries of named things. Unknown names raise a UserError with suggestions."""

import difflib
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from dico_tf.errors import UserError

T = TypeVar("T")


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return "did you mean X?" if a known name is similar, else the list of all known names."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"known: {', '.join(names)}"


class Registry(Generic[T]):
    """A mapping from names to things of one kind, e.g. `Registry("data set")`."""

    def __init__(self, kind: str):
        self.kind = kind
        self._things: dict[str, T] = {}
        self._unlisted: set[str] = set()

    def add(self, name: str, thing: T, listed: bool = True) -> T:
        """Register a thing and return it. One that is not `listed` can be looked up, but iteration leaves it out.

        Raises ValueError if the name is registered already.
        """
        if name in self._things:
            raise ValueError(f"{self.kind} {name!r} is registered twice")
        self._things[name] = thing
        if not listed:
            self._unlisted.add(name)
        return thing

    def __getitem__(self, name: str) -> T:
        if name not in self._things:
            raise UserError(f"unknown {self.kind} {name!r}; {suggestion(name, self._things)}")
        return self._things[name]

    def __contains__(self, name: object) -> bool:
        return name in self._things

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._things if name not in self._unlisted)

    def __len__(self) -> int:
        return len(self._things) - len(self._unlisted)

    def values(self) -> Iterator[T]:
        return (self._things[name] for name in self)
