"""Members of a committee.json, opened again for an export."""

import dataclasses
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

from dico_tf.committee import committee_file
from dico_tf.committee.committee_file import CommitteeFile
from dico_tf.committee.show import checksums
from dico_tf.errors import UserError
from dico_tf.evaluation.members import tflite_graph
from dico_tf.evaluation.members.collect_logits import check_classes
from dico_tf.evaluation.members.member import Member
from dico_tf.evaluation.members.open_members import open_members
from dico_tf.evaluation.members.output_decoding import OutputDecoder
from dico_tf.export.saved_model import noise
from dico_tf.files.manifest import COMMITTEE
from dico_tf.files.member_kinds import TABLE

_NAME = re.compile(r"[\w.@+-]+")  # names become parts of files, addresses and flags
_RENAME = "search again with --members=NAME=MODEL,..."
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ResolvedMember:
    """A member of a committee, how its outputs are read, and its costs from committee.json; a cost of 0 is unknown."""

    member: Member
    outputs: str  # "logits" or "probabilities"
    dropped: int  # 1 if the first output is a background class, else 0
    macs: int  # of one image; 0 = unknown
    params: int  # 0 = unknown

    @property
    def batch(self) -> int:
        """The batch size of a LiteRT file; 0 = any. Only for members that are LiteRT files."""
        return max(tflite_graph.read(self.member.file.path).inputs[0].shape[0], 0)


def resolve_members(path: str | Path) -> tuple[CommitteeFile, list[ResolvedMember]]:
    """Load a committee.json and open its members, in its order.

    Warns if a member has changed since the search. Raises UserError if one cannot be opened or exported, or if its
    classes are not those of the committee.
    """
    saved = committee_file.load(path)
    if fault := _fault(saved):
        raise UserError(f"--committee={path} {fault}")
    members = _open(path, saved)
    if [member.name for member in members] != list(saved.committee.members):
        raise UserError(
            f"--committee={path} was written by an older version and names sources with several networks: search again"
        )
    names = saved.class_names or tuple(f"class_{n}" for n in range(saved.classes))
    check_classes(members, SimpleNamespace(name=f"--committee={path}", class_names=names))
    if warning := committee_file.stale(saved, checksums(saved, members)):
        _log.warning("--committee=%s: %s", path, warning)
    pairs = zip(members, saved.members, strict=True)
    return saved, [_resolve(member, entry, saved.classes) for member, entry in pairs]


def _open(path: str | Path, saved: CommitteeFile) -> list[Member]:
    try:
        return open_members([f"{member.name}={member.source}" for member in saved.members], saved.classes)
    except UserError as fault:
        raise UserError(
            f"--committee={path}: a member cannot be opened: {fault}\nIf its path is relative, start the export in "
            "the folder in which the search ran"
        ) from None


def _fault(saved: CommitteeFile) -> str:
    """Return why this committee cannot be exported, or ""."""
    if saved.grid:
        return "classifies cells of an image: only committees with one class per image can be exported"
    for member in saved.members:
        if member.kind == TABLE:
            return (
                f"has the member {member.name}, a table of logits ({member.source}), which has none for new images: "
                "search again with --members=NAME=MODEL,... and --dataset"
            )
        if member.name == COMMITTEE:
            return f"has a member called {COMMITTEE}, the name of the whole: {_RENAME}"
        if not _NAME.fullmatch(member.name):
            return (
                f"has a member called {member.name!r}; names become parts of files and addresses, so use letters, "
                f"digits and _.@+-: {_RENAME}"
            )
    repeated = _repeated([member.source for member in saved.members])
    return f"was written by an older version and has {repeated} as several members: search again" if repeated else ""


def _repeated(sources: Sequence[str]) -> str:
    """Return a source that occurs more than once, or ""."""
    return next((source for n, source in enumerate(sources) if source in sources[:n]), "")


def _resolve(member: Member, entry: committee_file.SavedMember, classes: int) -> ResolvedMember:
    """Return a member with the kind of its outputs, detected on noise images if it is not known.

    Raises UserError if neither TensorFlow nor LiteRT runs the member, or if it does not have `classes` classes.
    """
    if member.file is None and member.graph is None:
        raise UserError(
            f"{member.source}: expected a member that TensorFlow or LiteRT runs, got {member.kind}; search again with "
            "the original network as .keras, SavedModel or .tflite"
        )
    costs = {name: getattr(entry.cost, name) for name in ("macs", "params")}
    counts = {name: round(value) if value == value else 0 for name, value in costs.items()}
    settings = member.decoder.settings
    decoder = OutputDecoder(entry.outputs or settings["outputs"], settings["background"], classes)
    outputs = member.network.answer(noise(member.input_size))
    logits = decoder(outputs, member.network.step, member.name)
    if logits.shape[1] != classes:
        raise UserError(f"{member.source} has {logits.shape[1]} classes and the committee has {classes}: search again")
    return ResolvedMember(member=member, outputs=decoder.kind, dropped=decoder.drops(outputs.shape[1]), **counts)
