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
    """Return the results on both splits as JSON.

    Rows are the committee; the reference if it has several members, else the ensemble of all; and each member alone.
    The other keys name the best member that costs no more, and how much accuracy differs between the splits.

    Args:
        test: None leaves the test split out.
        measure: cost in the rows: macs, params or milliseconds.
    """
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
    """Return the accuracy on calibration less that on test images, and its 95 % interval; over-fitting raises it."""
    return {
        "accuracy": calibration.accuracy - test.accuracy,
        "interval": list(statistics.bootstrap_gap(calibration.right, test.right)),
    }


def text(committee: Committee, results: dict[str, Any]) -> str:
    """Return the committee's gates, and a table of its `results` on both splits, as text."""
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
    """Return a committee as text, such as "ask m0; unless max_prob >= 0.93 ask m1; always ask m2"."""
    parts = [f"ask {committee.members[0]}"]
    for gate, member in zip(committee.gates, committee.members[1:], strict=True):
        parts.append(
            f"always ask {member}" if gate == NEVER else f"unless {committee.confidence} >= {gate:.4g} ask {member}"
        )
    return "; ".join(parts)


def promise(guaranteed: GuaranteedCommittee, guarantee: Guarantee) -> str:
    """Return the guarantee as text, and why the next, cheaper setting of the path, if any, has none."""
    certified = guaranteed.certified
    how = f"with {100 * guarantee.confidence:g} % confidence" if guarantee.kind == "probable" else "on average"
    claim = (
        f"{how}, at most {100 * guarantee.risk:g} % of new images of this kind are answered wrongly where the "
        "reference is right"
    )
    lines = [f"guarantee: {claim} ({certified.losses} of the {certified.images} calibration images that tested it)"]
    if not certified.place:
        lines = [f"no early exit: the reference itself is taken, as no cheaper setting passed the test that {claim}"]
    if certified.needed > certified.images:
        lines.append(f"{certified.images} images tested the next setting; it would need about {certified.needed}")
    elif len(guaranteed.path) == 1:
        lines.append("no setting is cheaper than the reference and within the risk on the images that laid the path")
    elif certified.place < len(guaranteed.path) - 1:
        lines.append("more images would not help: the next setting loses at least as often as --risk allows")
    return "\n".join(lines)


def promise_record(guaranteed: GuaranteedCommittee, guarantee: Guarantee) -> dict[str, Any]:
    """Return the guarantee as the JSON object `promise` of committee.json."""
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
    """Return a cost as text with its unit; "-" if it is NaN, which means unknown."""
    unit, word = _UNITS[measure]
    return "-" if math.isnan(value) else f"{value / unit:,.2f} {word}"
