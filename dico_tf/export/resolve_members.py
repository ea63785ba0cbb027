"""The members of a committee.json, found again where the search found them, and whether they can be exported."""

import dataclasses
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

from dico_tf.committee import saved as files
from dico_tf.committee.saved import Saved
from dico_tf.committee.shown import checksums
from dico_tf.errors import UserError
from dico_tf.evaluation.members import tflite_graph
from dico_tf.evaluation.members.collect_logits import check_classes
from dico_tf.evaluation.members.member import Member
from dico_tf.evaluation.members.open_members import open_members
from dico_tf.evaluation.members.output_decoding import OutputDecoder
from dico_tf.export.saved_model import noise
from dico_tf.files.manifest import COMMITTEE
from dico_tf.files.member_kinds import TABLE

_NAME = re.compile(r"[\w.@+-]+")  # goes into names of files, addresses and flags
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ResolvedMember:
    """A member as it is now, and as the search read its outputs."""

    member: Member
    outputs: str  # logits or probabilities
    dropped: int  # 1 where the first output is a background class
    macs: int  # 0 where that is not known, as params
    params: int

    @property
    def batch(self) -> int:
        """Pictures of a call of its LiteRT file; 0: any number."""
        return max(tflite_graph.read(self.member.file.path).inputs[0].shape[0], 0)


def resolve_members(path: str | Path) -> tuple[Saved, list[ResolvedMember]]:
    """In the committee's order. UserError where one cannot be exported; a warning where one has changed."""
    saved = files.load(path)
    if fault := _fault(saved):
        raise UserError(f"--committee={path} {fault}")
    members = _opened(path, saved)
    if [member.name for member in members] != list(saved.committee.members):
        raise UserError(
            f"--committee={path} names sources that hold several networks, as an older search wrote them: search again"
        )
    names = saved.class_names or tuple(f"class_{n}" for n in range(saved.classes))
    check_classes(members, SimpleNamespace(name=f"--committee={path}", class_names=names))
    if warning := files.stale(saved, checksums(saved, members)):
        _log.warning("--committee=%s: %s", path, warning)
    pairs = zip(members, saved.members, strict=True)
    return saved, [_found(member, about, saved.classes) for member, about in pairs]


def _opened(path: str | Path, saved: Saved) -> list[Member]:
    try:
        return open_members([f"{member.name}={member.source}" for member in saved.members], saved.classes)
    except UserError as fault:
        raise UserError(
            f"--committee={path} asks members where its search found them, relative paths from the folder that it ran "
            f"in: {fault}"
        ) from None


def _fault(saved: Saved) -> str:
    if saved.grid:
        return "classifies pixels, cell by cell: exports answer with one class a picture"
    for member in saved.members:
        if member.kind == TABLE:
            return (
                f"asks {member.name}, of which it knows a table of logits only ({member.source}), which says nothing "
                "about new pictures: search again with --members=NAME=MODEL,... and --dataset"
            )
        if not _NAME.fullmatch(member.name) or member.name == COMMITTEE:
            return (
                f"has a member called {member.name!r}, which cannot be a file's and an address's name: search again "
                "with --members=NAME=MODEL,... (answers are kept, nothing is asked twice)"
            )
    twice = _twice([member.source for member in saved.members])
    return f"has {twice} as several members, as an older search wrote it: search again" if twice else ""


def _twice(sources: Sequence[str]) -> str:
    return next((source for n, source in enumerate(sources) if source in sources[:n]), "")


def _found(member: Member, about: files.Member, classes: int) -> ResolvedMember:
    """What its outputs are is found out on made-up pictures where the search has not said it."""
    if member.file is None and member.graph is None:
        raise UserError(
            f"{member.source}: expected a member that TensorFlow or LiteRT runs, got {member.kind}; search with the "
            "network it was made of, as .keras, SavedModel or .tflite"
        )
    costs = {name: getattr(about.cost, name) for name in ("macs", "params")}
    known = {name: round(value) if value == value else 0 for name, value in costs.items()}
    settings = member.decoder.settings
    decoder = OutputDecoder(about.outputs or settings["outputs"], settings["background"], classes)
    pictures = noise(member.input_size)
    said = member.network.answer(pictures)
    logits = decoder(said, member.network.step, member.name)
    if logits.shape[1] != classes:
        raise UserError(f"{member.source} answers with {logits.shape[1]} classes, and the committee has {classes}: "
                        "search again")  # fmt: skip
    return ResolvedMember(member=member, outputs=decoder.kind, dropped=decoder.drops(said.shape[1]), **known)
