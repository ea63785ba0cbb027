"""Names to things: refuses duplicates, suggests on a miss."""

import difflib
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from dico_tf.errors import UserError

T = TypeVar("T")


def suggestion(name: str, known: Iterable[str]) -> str:
    """`; did you mean X?` where something known is near, else the whole menu."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"known: {', '.join(names)}"


class Registry(Generic[T]):
    """A menu of one kind of thing, e.g. `Registry("data set")`."""

    def __init__(self, kind: str):
        self.kind = kind
        self._things: dict[str, T] = {}
        self._unlisted: set[str] = set()

    def add(self, name: str, thing: T, listed: bool = True) -> T:
        """Register a thing; an unlisted one is found by its name and left out where all are listed."""
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
