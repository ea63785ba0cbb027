"""committee.py show: a committee.json as a person reads it."""

from dico_tf.committee import report
from dico_tf.committee.options import Show
from dico_tf.committee.saved import Saved, load
from dico_tf.evaluation.cost import MEASURES
from dico_tf.evaluation.table import table


def shown(asked: Show) -> str:
    saved = load(asked.committee)
    rows = [
        [member.name, member.kind, member.source, *(report.cost(member.cost.of(m), m) for m in MEASURES)]
        for member in saved.members
    ]
    lines = [table(["member", "kind", "source", *MEASURES], rows, range(3, 6)), "", *_fitted(saved)]
    return "\n".join([*lines, "", report.text(saved.committee, saved.results)] if saved.results else lines)


def _fitted(saved: Saved) -> list[str]:
    calibration = saved.calibration
    lines = [f"fitted to {calibration.images} images of {calibration.name} ({calibration.fingerprint})"]
    for name in ("weights", "temperatures"):
        if values := getattr(saved.committee, name):
            lines.append(f"{name}: {', '.join(f'{value:.3g}' for value in values)}")
    if saved.promise:
        lines.append(f"promise: {', '.join(f'{key} {value}' for key, value in saved.promise.items())}")
    return lines
