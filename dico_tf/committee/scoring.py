"""Accuracy, cost and other scores of a committee on labelled images."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from dico_tf.committee import statistics
from dico_tf.committee.decision import Committee, Decision, are_right, decide, ensemble, reach, worst_cost
from dico_tf.committee.pool import Pool
from dico_tf.evaluation.averaging import log_softmax


@dataclasses.dataclass(frozen=True, eq=False)
class CommitteeScores:
    """Scores of one committee on N images."""

    committee: Committee
    decision: Decision
    right: np.ndarray  # bool [N]
    first_right: np.ndarray  # bool [N], of the first member alone
    nll: float
    cost: float  # average of an image
    interval_of_cost: tuple[float, float]  # 95 %, of the average
    worst: float  # cost of an image on which every member runs

    @property
    def accuracy(self) -> float:
        return float(self.right.mean())

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson interval of the accuracy."""
        return statistics.wilson(int(self.right.sum()), len(self.right))

    @property
    def aurc(self) -> float:
        """Area under the risk-coverage curve of the first member: its confidences and its answers alone."""
        return statistics.aurc(self.decision.confidence[:, 0], self.first_right)

    @property
    def reach(self) -> list[float]:
        """Share of the images on which each member runs."""
        return reach(self.decision.stage, len(self.committee.members)).tolist()


def scores_of(committee: Committee, pool: Pool, measure: str) -> CommitteeScores:
    """Return the scores of a committee on the images of a pool, with costs by `measure`, such as macs."""
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
        worst_cost(price.tolist(), committee.gates),
    )


def comparisons(pool: Pool, chosen: Committee, reference: Committee, measure: str) -> dict[str, Committee]:
    """Return {row name: committee} to compare with the chosen one.

    First comes the reference if it has several members, else the ensemble of all; then each member alone, by rising
    cost `measure`. The ensemble and the members have the average and confidence of `chosen`.
    """
    by_cost = sorted(pool.members, key=lambda member: pool.cost(member, measure))
    how = {"average": chosen.average, "confidence": chosen.confidence}
    every = ensemble(*by_cost, **how)
    together = {f"all {len(by_cost)} members": every} if len(by_cost) > 1 else {}
    if reference.kind != "single":
        together = {f"reference: {reference.kind} of {len(reference.members)}": reference}
    return together | {member: Committee(members=(member,), **how) for member in by_cost}


def no_dearer(pool: Pool, cost: float, measure: str) -> str | None:
    """Return the member with the most right answers on the pool that costs at most `cost`; None if each costs more."""
    count = {m: int(are_right(pool.logits[m], pool.labels).sum()) for m in pool.members}
    within = [member for member in pool.members if pool.cost(member, measure) <= cost]
    return max(within, key=lambda member: count[member]) if within else None


def against(one: Sequence[bool], other: Sequence[bool]) -> dict[str, float]:
    """Compare two committees on the same images.

    one, other: for each image, whether it is answered correctly.

    Returns {"difference": accuracy of `one` less that of `other`, "mcnemar_p": McNemar's exact two-sided p}.
    """
    one, other = np.asarray(one), np.asarray(other)
    return {"difference": float(one.mean() - other.mean()), "mcnemar_p": statistics.mcnemar(one, other)}
