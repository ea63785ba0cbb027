"""What a search found, on the images it was fitted to and on others, side by side."""

import math
from typing import Any

from dico_tf.committee import statistics
from dico_tf.committee.decision import NEVER, Committee
from dico_tf.committee.guarantee import Guarantee
from dico_tf.committee.guaranteed_search import GuaranteedCommittee, stops_early
from dico_tf.committee.pool import Pool
from dico_tf.committee.scoring import CommitteeScores, against, comparisons, no_dearer, scores_of
from dico_tf.evaluation.table import table

OURS = "the committee"
_UNITS = {"macs": (1e6, "M multiply-adds"), "params": (1e6, "M parameters"), "milliseconds": (1.0, "ms")}


def results(
    committee: Committee, reference: Committee, calibration: Pool, test: Pool | None, measure: str
) -> dict[str, Any]:
    """One row for the committee, its reference, the full ensemble and each member, with both splits; JSON."""
    pools = {"calibration": calibration} | ({} if test is None else {"test": test})
    named = {OURS: committee} | comparisons(calibration, committee, reference, measure)
    ours = {split: scores_of(committee, pool, measure) for split, pool in pools.items()}
    rows = []
    for name, other in named.items():
        splits = {split: _numbers(scores_of(other, pool, measure), ours[split]) for split, pool in pools.items()}
        rows.append({"name": name, "kind": other.kind, "members": list(other.members), **splits})
    return {
        "measure": measure,
        "rows": rows,
        "best_single_no_dearer": no_dearer(calibration, ours["calibration"].cost, measure),
        **({} if test is None else {"gap": _gap(ours["calibration"], ours["test"])}),
    }


def _numbers(found: CommitteeScores, ours: CommitteeScores) -> dict[str, Any]:
    return {
        "images": len(found.right),
        "accuracy": found.accuracy,
        "interval": list(found.interval),
        "nll": found.nll,
        "aurc": found.aurc,
        "cost": found.cost,
        "interval_of_cost": list(found.interval_of_cost),
        "worst": found.worst,
        "reach": found.reach,
        "lost": int(found.decision.lost.sum()),
        "committee_less_this": against(ours.right, found.right),
    }


def _gap(calibration: CommitteeScores, test: CommitteeScores) -> dict[str, Any]:
    """How much better the committee looks on the images it was fitted to: over-fitting shows here."""
    return {
        "accuracy": calibration.accuracy - test.accuracy,
        "interval": list(statistics.bootstrap_gap(calibration.right, test.right)),
    }


def text(committee: Committee, found: dict[str, Any]) -> str:
    """The committee's gates, and both splits side by side."""
    unit, word = _UNITS[found["measure"]]
    splits = [split for split in ("calibration", "test") if split in found["rows"][0]]
    headers = ["", *(f"{split} %" for split in splits), "95 %", f"average {word}", "worst", "difference", "p"]
    rows = []
    for row in found["rows"]:
        last = row[splits[-1]]
        difference = last["committee_less_this"]
        other = row["name"] != OURS
        rows.append([
            row["name"], *(f"{100 * row[split]['accuracy']:.2f}" for split in splits),
            "{:.1f} to {:.1f}".format(*(100 * end for end in last["interval"])),
            f"{last['cost'] / unit:,.2f}", f"{last['worst'] / unit:,.2f}",
            f"{100 * difference['difference']:+.2f}" if other else None,
            f"{difference['mcnemar_p']:.3f}" if other else None,
        ])  # fmt: skip
    lines = [gates(committee), "", table(headers, rows, range(1, len(headers))), ""]
    lines.append(f"difference: of the committee's accuracy to this row's on the {splits[-1]} images, in points; p: "
                 "McNemar's exact test")  # fmt: skip
    best = found["best_single_no_dearer"]
    lines.append(f"the best single member that is no dearer: {best}" if best else "no single member is as cheap")
    if "gap" in found:
        low, high = (100 * end for end in found["gap"]["interval"])
        lines.append(f"calibration less test: {100 * found['gap']['accuracy']:+.2f} points (95 %: {low:+.2f} to "
                     f"{high:+.2f})")  # fmt: skip
    return "\n".join(lines)


def gates(committee: Committee) -> str:
    """ask m0; where max_prob >= 0.93 stop, else ask m1; ... else ask m2"""
    parts = [f"ask {committee.members[0]}"]
    for gate, member in zip(committee.gates, committee.members[1:], strict=True):
        parts.append(
            f"always ask {member}" if gate == NEVER else f"unless {committee.confidence} >= {gate:.4g} ask {member}"
        )
    return "; ".join(parts)


def promise(found: GuaranteedCommittee, promise: Guarantee) -> str:
    """What is promised, or why nothing can be, and how many images it would take."""
    certified = found.certified
    kept = (
        f"with {100 * promise.confidence:g} % confidence, at most {100 * promise.risk:g} % of new images of this kind"
        if promise.kind == "probable"
        else f"in the mean, at most {100 * promise.risk:g} % of new images of this kind"
    )
    lines = [f"promise: {kept} are answered wrongly where the reference is right ({certified.losses} of "
             f"{certified.images} that tested it)"]  # fmt: skip
    if not stops_early(found.committee):
        lines = [f"never exit early: {certified.images} images cannot show that {kept} would be lost by stopping"]
    if certified.needed > certified.images:
        lines.append(f"the next setting would need about {certified.needed} images to test it")
    elif len(found.path) == 1:
        lines.append("no setting here is cheaper than the reference and keeps to the risk on the images that laid it")
    elif certified.needed == 0 and certified.place < len(found.path) - 1:
        lines.append("more images would not help: the next setting loses more often than the risk")
    return "\n".join(lines)


def promise_record(found: GuaranteedCommittee, promise: Guarantee) -> dict[str, Any]:
    """For the committee's file."""
    certified = found.certified
    return {
        "kind": promise.kind, "risk": promise.risk,
        "confidence": promise.confidence if promise.kind == "probable" else None,
        "reference": list(found.reference.members), "losses": certified.losses, "images": certified.images,
        "needed": certified.needed, "stops_early": stops_early(found.committee), "settings": len(found.path),
    }  # fmt: skip


def cost(value: float, measure: str) -> str:
    unit, word = _UNITS[measure]
    return "-" if math.isnan(value) else f"{value / unit:,.2f} {word}"
