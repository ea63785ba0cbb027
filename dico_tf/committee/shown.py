"""Text that shows a committee.json."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dico_tf import quiet
from dico_tf.committee import report
from dico_tf.committee.dense import report as dense
from dico_tf.committee.saved import Saved, load, stale
from dico_tf.committee.sources import BRANCH, of_branches
from dico_tf.evaluation.cost import MEASURES
from dico_tf.evaluation.table import table


def shown(path: str | Path, check: bool = False) -> str:
    """Return a committee file as text; with `check`, look at the members again and warn where one has changed."""
    saved = load(path)
    rows = [
        [member.name, member.kind, member.source, *(report.cost(member.cost.of(m), m) for m in MEASURES)]
        for member in saved.members
    ]
    lines = [table(["member", "kind", "source", *MEASURES], rows, range(3, 6)), "", *_fitted(saved)]
    if check:
        lines.append(_checked(saved))
    return "\n".join([*lines, "", told(saved)] if saved.results else lines)


def told(saved: Saved) -> str:
    """Its results as text; they have no format of their own, and another version may have written others."""
    try:
        if saved.grid:
            return dense.text(saved.committee, saved.grid, saved.results)
        return report.text(saved.committee, saved.results)
    except (LookupError, TypeError, ValueError, AttributeError):
        return f"what it does was written in other words, by {saved.made_by.get('dico_tf', 'another version')}"


def _checked(saved: Saved) -> str:
    sums = checksums(saved)
    unknown = [member.name for member in saved.members if not (member.sha256 and sums.get(member.name))]
    same = "every member is the one that the gates were fitted to"
    if unknown:
        same = (
            f"of {', '.join(unknown)} nothing can be compared: only answers are known, or no network is where the "
            "search found it (relative paths are looked for from the folder that the search ran in)"
        )
    return stale(saved, sums) or same


def _fitted(saved: Saved) -> list[str]:
    calibration = saved.calibration
    lines = [f"fitted to {calibration.images} images of {calibration.name} ({calibration.fingerprint})"]
    for name in ("weights", "temperatures"):
        if values := getattr(saved.committee, name):
            lines.append(f"{name}: {', '.join(f'{value:.3g}' for value in values)}")
    if saved.promise:
        lines.append(f"promise: {', '.join(f'{key} {value}' for key, value in saved.promise.items())}")
    return lines


def checksums(saved: Saved, members: Sequence[Any] = ()) -> dict[str, str]:
    """Of the members as they are now, which may have been opened already; those of a table have none."""
    runs = {member.source.rpartition(":")[0] for member in saved.members if member.kind == BRANCH}
    sums = {f"{run}:{name}": found for run in runs for name, found in of_branches(Path(run)).items()}
    found = {member.name: sums.get(member.source, "") for member in saved.members if member.kind == BRANCH}
    if members:
        return {member.name: member.checksum for member in members} | found
    asked = [f"{m.name}={m.source}" for m in saved.members if m.sha256 and m.kind != BRANCH]
    if not asked:
        return found
    quiet.tensorflow()
    if saved.grid:
        from dico_tf.evaluation.members.segmenters import opened
    else:
        from dico_tf.evaluation.members.opening import opened

    return found | {member.name: member.checksum for member in opened(asked, saved.classes)}
