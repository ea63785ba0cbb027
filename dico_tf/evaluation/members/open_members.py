"""From what a person writes to members that can be asked."""

import dataclasses
import importlib
from collections.abc import Sequence
from pathlib import Path

from dico_tf.errors import UserError
from dico_tf.evaluation.members.kinds import KINDS
from dico_tf.evaluation.members.member import Member
from dico_tf.evaluation.members.member_uri import EXAMPLES, Spelling, parse
from dico_tf.files import member_kinds as kinds
from dico_tf.files.manifest import SAVED_MODEL


def opened(sources: Sequence[str], classes: int = 0) -> list[Member]:
    """The members of each source, in order, under names of their own; `classes` are the data's, where known."""
    spellings = [parse(source) for source in sources]
    if not spellings:
        raise UserError(f"a committee has members: give {EXAMPLES}")
    twice = [s.source for n, s in enumerate(spellings) if s.source in [t.source for t in spellings[:n]]]
    if twice:
        raise UserError(f"{twice[0]} is given twice: it would say the same both times")
    found = [(spelling, member) for spelling in spellings for member in _members(spelling, classes)]
    return _named_apart(found)


def _members(spelling: Spelling, classes: int) -> list[Member]:
    if spelling.kind == kinds.SAVED_MODEL and not spelling.options and spelling.part == "":
        spelling = _of_export(spelling)
    found = importlib.import_module(f"{__package__}.{KINDS[spelling.kind].module}").members(spelling, classes)
    if spelling.name and len(found) == 1:
        return [dataclasses.replace(found[0], name=spelling.name)]
    return found


def _of_export(spelling: Spelling) -> Spelling:
    """A SavedModel within an export is described by its manifest."""
    from dico_tf.evaluation.members import exports

    described = exports.owner(Path(spelling.place))
    if described is None:
        return spelling
    part = Path(spelling.place).name
    return dataclasses.replace(
        spelling, kind=kinds.EXPORT, place=str(described), part=part, options={"format": SAVED_MODEL}
    )


def _named_apart(found: Sequence[tuple[Spelling, Member]]) -> list[Member]:
    """Names that were given stay; of those made of places, later ones are numbered."""
    taken: set[str] = set()
    for spelling, member in found:
        if spelling.name and member.name in taken:
            raise UserError(f"two members are called {member.name}: give each a name of its own")
        taken |= {member.name} if spelling.name else set()
    members = []
    for spelling, member in found:
        name = member.name
        if not spelling.name:
            choices = (name, *(f"{name}_{n}" for n in range(2, len(found) + 2)))
            name = next(choice for choice in choices if choice not in taken)
            taken.add(name)
        members.append(dataclasses.replace(member, name=name))
    return members
