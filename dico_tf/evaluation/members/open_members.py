"""From what a person writes to members that can be asked."""

import dataclasses
import importlib
from collections.abc import Sequence
from pathlib import Path

from dico_tf.errors import UserError
from dico_tf.evaluation.members.kinds import KINDS
from dico_tf.evaluation.members.member import Member
from dico_tf.evaluation.members.member_uri import EXAMPLES, MemberURI, parse
from dico_tf.files import member_kinds as kinds
from dico_tf.files.manifest import SAVED_MODEL


def open_members(sources: Sequence[str], classes: int = 0) -> list[Member]:
    """The members of each source, in order, under names of their own; `classes` are the data's, where known."""
    spellings = [parse(source) for source in sources]
    if not spellings:
        raise UserError(f"a committee has members: give {EXAMPLES}")
    twice = [s.source for n, s in enumerate(spellings) if s.source in [t.source for t in spellings[:n]]]
    if twice:
        raise UserError(f"{twice[0]} is given twice: it would say the same both times")
    found = [(uri, member) for uri in spellings for member in _members(uri, classes)]
    return _named_apart(found)


def _members(uri: MemberURI, classes: int) -> list[Member]:
    if uri.kind == kinds.SAVED_MODEL and not uri.options and uri.part == "":
        uri = _of_export(uri)
    found = importlib.import_module(f"{__package__}.{KINDS[uri.kind].module}").members(uri, classes)
    if uri.name and len(found) == 1:
        return [dataclasses.replace(found[0], name=uri.name)]
    return found


def _of_export(uri: MemberURI) -> MemberURI:
    """A SavedModel within an export is described by its manifest."""
    from dico_tf.evaluation.members import exports

    described = exports.owner(Path(uri.place))
    if described is None:
        return uri
    part = Path(uri.place).name
    return dataclasses.replace(uri, kind=kinds.EXPORT, place=str(described), part=part, options={"format": SAVED_MODEL})


def _named_apart(found: Sequence[tuple[MemberURI, Member]]) -> list[Member]:
    """Names that were given stay; of those made of places, later ones are numbered."""
    taken: set[str] = set()
    for uri, member in found:
        if uri.name and member.name in taken:
            raise UserError(f"two members are called {member.name}: give each a name of its own")
        taken |= {member.name} if uri.name else set()
    members = []
    for uri, member in found:
        name = member.name
        if not uri.name:
            choices = (name, *(f"{name}_{n}" for n in range(2, len(found) + 2)))
            name = next(choice for choice in choices if choice not in taken)
            taken.add(name)
        members.append(dataclasses.replace(member, name=name))
    return members
