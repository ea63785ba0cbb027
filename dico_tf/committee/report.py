"""Results of a search on calibration and test images, side by side, as JSON and as text."""

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
    """Return JSON: a row for the committee, its reference or the full ensemble, and each member, with both splits."""
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


def _numbers(scores: CommitteeScores, ours: CommitteeScores) -> dict[str, Any]:
    return {
        "images": len(scores.right),
        "accuracy": scores.accuracy,
        "interval": list(scores.interval),
        "nll": scores.nll,
        "aurc": scores.aurc,
        "cost": scores.cost,
        "interval_of_cost": list(scores.interval_of_cost),
        "worst": scores.worst,
        "reach": scores.reach,
        "lost": int(scores.decision.lost.sum()),
        "committee_less_this": against(ours.right, scores.right),
    }


def _gap(calibration: CommitteeScores, test: CommitteeScores) -> dict[str, Any]:
    """Return how much better the committee looks on the images it was fitted to, which shows over-fitting."""
    return {
        "accuracy": calibration.accuracy - test.accuracy,
        "interval": list(statistics.bootstrap_gap(calibration.right, test.right)),
    }


def text(committee: Committee, results: dict[str, Any]) -> str:
    """Return the committee's gates and a table of both splits."""
    unit, word = _UNITS[results["measure"]]
    splits = [split for split in ("calibration", "test") if split in results["rows"][0]]
    headers = ["", *(f"{split} %" for split in splits), "95 %", f"average {word}", "worst", "difference", "p"]
    rows = []
    for row in results["rows"]:
        last = row[splits[-1]]
        difference = last["committee_less_this"]
        other = row["name"] != OURS
        rows.append(
            [
                row["name"],
                *(f"{100 * row[split]['accuracy']:.2f}" for split in splits),
                "{:.1f} to {:.1f}".format(*(100 * end for end in last["interval"])),
                f"{last['cost'] / unit:,.2f}",
                f"{last['worst'] / unit:,.2f}",
                f"{100 * difference['difference']:+.2f}" if other else None,
                f"{difference['mcnemar_p']:.3f}" if other else None,
            ]
        )
    lines = [gates(committee), "", table(headers, rows, range(1, len(headers))), ""]
    lines.append(
        f"difference: the committee's accuracy less this row's on the {splits[-1]} images, in points; p: McNemar's "
        "exact test"
    )
    best = results["best_single_no_dearer"]
    lines.append(f"the best single member at no higher cost: {best}" if best else "no single member is as cheap")
    if "gap" in results:
        low, high = (100 * end for end in results["gap"]["interval"])
        lines.append(
            f"calibration less test: {100 * results['gap']['accuracy']:+.2f} points (95 %: {low:+.2f} to {high:+.2f})"
        )
    return "\n".join(lines)


def gates(committee: Committee) -> str:
    """Return the gates as text: ask m0; unless max_prob >= 0.93 ask m1; always ask m2."""
    parts = [f"ask {committee.members[0]}"]
    for gate, member in zip(committee.gates, committee.members[1:], strict=True):
        parts.append(
            f"always ask {member}" if gate == NEVER else f"unless {committee.confidence} >= {gate:.4g} ask {member}"
        )
    return "; ".join(parts)


def promise(guaranteed: GuaranteedCommittee, guarantee: Guarantee) -> str:
    """Return the guarantee as text, or why there is none and how many images it would take."""
    certified = guaranteed.certified
    how = f"with {100 * guarantee.confidence:g} % confidence" if guarantee.kind == "probable" else "on average"
    claim = f"{how}, at most {100 * guarantee.risk:g} % of new images of this kind"
    lines = [
        f"guarantee: {claim} are answered wrongly where the reference is right ({certified.losses} of "
        f"{certified.images} test images)"
    ]
    if not stops_early(guaranteed.committee):
        lines = [f"no early exit: {certified.images} images are too few to show that {claim} would be lost by stopping"]
    if certified.needed > certified.images:
        lines.append(f"the next setting would need about {certified.needed} images to test it")
    elif len(guaranteed.path) == 1:
        lines.append("no setting is cheaper than the reference and within the risk on the images that laid the path")
    elif certified.needed == 0 and certified.place < len(guaranteed.path) - 1:
        lines.append("more images would not help: the next setting loses more often than --risk allows")
    return "\n".join(lines)


def promise_record(guaranteed: GuaranteedCommittee, guarantee: Guarantee) -> dict[str, Any]:
    """Return the guarantee as committee.json stores it."""
    certified = guaranteed.certified
    return {
        "kind": guarantee.kind,
        "risk": guarantee.risk,
        "confidence": guarantee.confidence if guarantee.kind == "probable" else None,
        "reference": list(guaranteed.reference.members),
        "losses": certified.losses,
        "images": certified.images,
        "needed": certified.needed,
        "stops_early": stops_early(guaranteed.committee),
        "settings": len(guaranteed.path),
    }


def cost(value: float, measure: str) -> str:
    """Return a cost with its unit; - for NaN, an unknown one."""
    unit, word = _UNITS[measure]
    return "-" if math.isnan(value) else f"{value / unit:,.2f} {word}"
