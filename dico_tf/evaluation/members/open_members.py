"""Open members of all kinds by their URIs."""

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
    """Return the members of each URI, in order, with distinct names; one URI may give several.

    Raises UserError for no URI, the same one twice, a name given twice, or anything that cannot be a member.

    Args:
        sources: URIs, [NAME=]PLACE[:PART][@SIZE][?OPTION=VALUE...].
        classes: number of classes of the data; 0 = unknown.
    """
    uris = [parse(source) for source in sources]
    if not uris:
        raise UserError(f"a committee needs members: give {EXAMPLES}")
    twice = [uri.source for n, uri in enumerate(uris) if uri.source in [other.source for other in uris[:n]]]
    if twice:
        raise UserError(f"{twice[0]} is given twice: leave one out")
    return _rename([(uri, member) for uri in uris for member in _members(uri, classes)])


def _members(uri: MemberURI, classes: int) -> list[Member]:
    if uri.kind == kinds.SAVED_MODEL and not uri.options and uri.part == "":
        uri = _export_uri(uri)
    members = importlib.import_module(f"{__package__}.{KINDS[uri.kind].module}").members(uri, classes)
    if uri.name and len(members) == 1:
        return [dataclasses.replace(members[0], name=uri.name)]
    return members


def _export_uri(uri: MemberURI) -> MemberURI:
    """Return a URI of the export and its member if the SavedModel belongs to an export, else the same URI."""
    from dico_tf.evaluation.members import exports

    manifest = exports.owner(Path(uri.place))
    if manifest is None:
        return uri
    part = Path(uri.place).name
    return dataclasses.replace(uri, kind=kinds.EXPORT, place=str(manifest), part=part, options={"format": SAVED_MODEL})


def _rename(opened: Sequence[tuple[MemberURI, Member]]) -> list[Member]:
    """Return the members with distinct names: the user's names stay; _2, _3 ... is added to others that are taken."""
    taken: set[str] = set()
    for uri, member in opened:
        if uri.name and member.name in taken:
            raise UserError(f"two members are called {member.name}: give each its own NAME=")
        taken |= {member.name} if uri.name else set()
    members = []
    for uri, member in opened:
        name = member.name
        if not uri.name:
            choices = (name, *(f"{name}_{n}" for n in range(2, len(opened) + 2)))
            name = next(choice for choice in choices if choice not in taken)
            taken.add(name)
        members.append(dataclasses.replace(member, name=name))
    return members
