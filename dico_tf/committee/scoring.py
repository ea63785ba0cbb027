"""A committee on labelled images it was, or was not, fitted to."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from dico_tf.committee import costs, statistics
from dico_tf.committee.decision import Committee, Decision, are_right, decide, ensemble
from dico_tf.committee.pool import Pool
from dico_tf.evaluation.averaging import log_softmax


@dataclasses.dataclass(frozen=True, eq=False)
class CommitteeScores:
    committee: Committee
    decision: Decision
    right: np.ndarray  # bool [N]
    first_right: np.ndarray  # bool [N], of the first member alone
    nll: float
    cost: float  # average
    interval_of_cost: tuple[float, float]
    worst: float

    @property
    def accuracy(self) -> float:
        return float(self.right.mean())

    @property
    def interval(self) -> tuple[float, float]:
        return statistics.wilson(int(self.right.sum()), len(self.right))

    @property
    def aurc(self) -> float:
        """Of the confidence of the first member's answers, by which most is decided."""
        return statistics.aurc(self.decision.confidence[:, 0], self.first_right)

    @property
    def reach(self) -> list[float]:
        return costs.reach(self.decision.stage, len(self.committee.members)).tolist()


def scores_of(committee: Committee, pool: Pool, measure: str) -> CommitteeScores:
    decision = decide(committee, pool.stacked(committee.members))
    price = np.array([pool.cost(member, measure) for member in committee.members])
    spent = np.cumsum(price)[decision.stage]
    log_p = log_softmax(np.nan_to_num(decision.logits, nan=0.0, posinf=1e30, neginf=-1e30))
    return CommitteeScores(
        committee,
        decision,
        decision.right(pool.labels),
        are_right(pool.logits[committee.members[0]], pool.labels),
        float(-log_p[np.arange(pool.size), pool.labels].mean()),
        float(spent.mean()),
        statistics.of_mean(spent),
        costs.worst(price.tolist(), committee.gates),
    )


def comparisons(pool: Pool, chosen: Committee, reference: Committee, measure: str) -> dict[str, Committee]:
    """What a committee is held against: its reference, the full ensemble, and every single member."""
    by_cost = sorted(pool.members, key=lambda member: pool.cost(member, measure))
    how = {"average": chosen.average, "confidence": chosen.confidence}
    every = ensemble(*by_cost, **how)
    found = {f"all {len(by_cost)} members": every} if len(by_cost) > 1 else {}
    if reference.kind != "single":
        found = {f"reference: {reference.kind} of {len(reference.members)}": reference}
    return found | {member: Committee(members=(member,), **how) for member in by_cost}


def no_dearer(pool: Pool, cost: float, measure: str) -> str | None:
    """The most accurate single member that costs no more; None where the cheapest does."""
    count = {m: int(are_right(pool.logits[m], pool.labels).sum()) for m in pool.members}
    within = [member for member in pool.members if pool.cost(member, measure) <= cost]
    return max(within, key=lambda member: count[member]) if within else None


def against(one: Sequence[bool], other: Sequence[bool]) -> dict[str, float]:
    """Paired: difference of accuracies, and McNemar's exact p of there being none."""
    one, other = np.asarray(one), np.asarray(other)
    return {"difference": float(one.mean() - other.mean()), "mcnemar_p": statistics.mcnemar(one, other)}
