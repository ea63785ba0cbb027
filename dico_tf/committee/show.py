"""Text of a committee.json for `committee.py show`."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from dico_tf import startup
from dico_tf.committee import report
from dico_tf.committee.committee_file import CommitteeFile, load, stale
from dico_tf.committee.dense import report as dense
from dico_tf.committee.inputs import of_branches
from dico_tf.errors import UserError
from dico_tf.evaluation.cost import MEASURES
from dico_tf.evaluation.table import table
from dico_tf.files import member_kinds as kinds


def committee_text(path: str | Path, check: bool = False) -> str:
    """Return a committee file as text; with `check`, it also says which members have changed since the search."""
    saved = load(path)
    rows = [
        [member.name, member.kind, member.source, *(report.cost(member.cost.of(m), m) for m in MEASURES)]
        for member in saved.members
    ]
    lines = [table(["member", "kind", "source", *MEASURES], rows, range(3, 6)), "", *_calibration(saved)]
    if check:
        lines.append(_checked(saved))
    return "\n".join([*lines, "", results_text(saved)] if saved.results else lines)


def results_text(saved: CommitteeFile) -> str:
    """Return a file's results as text, or one line if another version wrote them with other keys."""
    try:
        if saved.grid:
            return dense.text(saved.committee, saved.grid, saved.results)
        return report.text(saved.committee, saved.results)
    except (LookupError, TypeError, ValueError, AttributeError):
        return f"the results were written by version {saved.made_by.get('dico_tf', 'unknown')} in another form"


def _checked(saved: CommitteeFile) -> str:
    """Return a line: the members that have changed, else those that cannot be compared, else that all are unchanged."""
    sums = checksums(saved)
    unknown = [member.name for member in saved.members if not (member.sha256 and sums.get(member.name))]
    same = "every member is the one that the gates were fitted to"
    if unknown:
        same = (
            f"{', '.join(unknown)} cannot be compared: only answers are known, or no network is at the path of the "
            "search (relative paths start at the folder in which the search ran)"
        )
    return stale(saved, sums) or same


def _calibration(saved: CommitteeFile) -> list[str]:
    """Return lines about the calibration images, the fitted weights and temperatures, and the guarantee."""
    calibration = saved.calibration
    lines = [f"fitted to {calibration.images} images of {calibration.name} ({calibration.fingerprint})"]
    for name in ("weights", "temperatures"):
        if values := getattr(saved.committee, name):
            lines.append(f"{name}: {', '.join(f'{value:.3g}' for value in values)}")
    if saved.promise:
        lines.append(f"promise: {', '.join(f'{key} {value}' for key, value in saved.promise.items())}")
    return lines


def checksums(saved: CommitteeFile, members: Sequence[Any] = ()) -> dict[str, str]:
    """Return {member: its checksum now}; members that cannot be compared, such as those of a table, are left out.

    A search with --workdir stores the checksum of a branch's weights, a search with --members that of the opened
    member. For an unchanged branch, the result has the one that is stored. A run that cannot be opened is left out;
    any other member that cannot be opened raises UserError.

    Args:
        members: all members, opened before; if empty, those that must be opened are opened here.
    """
    weights = _weights(saved)
    unchanged = {m.name: m.sha256 for m in saved.members if m.sha256 and weights.get(m.name) == m.sha256}
    if members:
        return {member.name: member.checksum for member in members} | unchanged
    return weights | _opened(saved, {*unchanged, *_lost(saved, weights)}) | unchanged


def _weights(saved: CommitteeFile) -> dict[str, str]:
    """Return {member: sha256 of its weights} for branches of runs that still have weights."""
    folders = {member.source.rpartition(":")[0] for member in saved.members if member.kind == kinds.RUN} - {""}
    sums = {f"{run}:{name}": sha256 for run in folders for name, sha256 in of_branches(Path(run)).items()}
    return {member.name: sums[member.source] for member in saved.members if member.source in sums}


def _lost(saved: CommitteeFile, weights: Mapping[str, str]) -> list[str]:
    """Return the names of the members that are branches of a run whose folder has no weights any more.

    Args:
        weights: the result of `_weights` for the same file.
    """
    runs = [member for member in saved.members if member.kind == kinds.RUN and member.name not in weights]
    return [member.name for member in runs if not of_branches(Path(member.source.rpartition(":")[0]))]


def _opened(saved: CommitteeFile, but: Collection[str]) -> dict[str, str]:
    """Open the members that have a stored checksum, except tables and those in `but`; return their checksums.

    A run that cannot be opened is left out; any other member that cannot be opened raises UserError.
    """
    unopened = [m for m in saved.members if m.sha256 and m.kind != kinds.TABLE and m.name not in but]
    if not unopened:
        return {}
    startup.tensorflow()
    if saved.grid:
        from dico_tf.evaluation.members.segmentation_members import open_segmentation_members as open_sources
    else:
        from dico_tf.evaluation.members.open_members import open_members as open_sources

    sums = {}
    for member in unopened:
        try:
            sums |= {one.name: one.checksum for one in open_sources([f"{member.name}={member.source}"], saved.classes)}
        except UserError:
            if member.kind != kinds.RUN:
                raise
    return sums
