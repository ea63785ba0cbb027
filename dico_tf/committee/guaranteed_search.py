"""The cheapest committee that keeps a promise to its reference: a path laid on one half, tested on the other."""

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np

from dico_tf.committee import costs
from dico_tf.committee.decision import NEVER, Committee, are_right, decide, stages
from dico_tf.committee.guarantee import Certified, Guarantee, certify, passes, regret
from dico_tf.committee.pool import Pool
from dico_tf.committee.search import Goal, Space, candidates, cheapest, template
from dico_tf.committee.sweep import sweep
from dico_tf.errors import UserError

_BETWEEN = (0.8, 0.6, 0.4, 0.2)  # of the way back to never: settings safer than the first of the front
_LONGEST = 200  # settings of a path


@dataclasses.dataclass(frozen=True, eq=False)
class GuaranteedCommittee:
    committee: Committee
    reference: Committee
    certified: Certified
    path: list[Committee]  # from the reference on


def guaranteed_search(
    pool: Pool, kind: str, space: Space, goal: Goal, promise: Guarantee, seed: int = 0,
    tick: Callable[[], None] = lambda: None,
) -> GuaranteedCommittee:  # fmt: skip
    """All that is fitted, members and path from a half of the pool; from the other the last setting that keeps to it.

    `kind`: of the reference. UserError where that setting, at worst the reference itself, is beyond the goal's limits.
    """
    laying, testing = pool.halves(0.5, seed)
    aim = reference(laying, kind, space, goal)
    path = lay(laying, aim, space, goal, promise, tick)
    right = right_answers(testing, aim)
    losses = np.stack([regret(right, right_answers(testing, committee)) for committee in path])
    found = certify(losses, promise)
    _check_limits(pool, path[found.place], goal, found)
    return GuaranteedCommittee(path[found.place], aim, found, path)


def _check_limits(pool: Pool, kept: Committee, goal: Goal, certified: Certified) -> None:
    """The reference is safe however dear it is, so what is kept may be dearer than what was allowed."""
    slow = dataclasses.replace(goal, measure="milliseconds")
    for flag, limit, of, takes in (
        ("worst_case", goal.worst, goal, lambda g: costs.worst(_costs(pool, kept, g), kept.gates)),
        ("budget", goal.budget, goal, lambda g: _cost(pool, kept, g)),
        ("latency", goal.milliseconds, slow, lambda g: _cost(pool, kept, g)),
    ):
        if limit < math.inf and (found := takes(of)) > limit * (1 + 1e-12):
            more = f"; about {certified.needed} would test the next setting" if certified.needed else ""
            raise UserError(
                f"--risk cannot be promised within --{flag}={limit:g}: the cheapest that {certified.images} images "
                f"show to keep to it takes {found:g} {of.measure}; allow that much, or a larger risk, or give more "
                f"images{more}"
            )


def right_answers(pool: Pool, committee: Committee) -> np.ndarray:
    """bool [N]"""
    return decide(committee, pool.stacked(committee.members)).right(pool.labels)


def lay(
    pool: Pool, aim: Committee, space: Space, goal: Goal, promise: Guarantee,
    tick: Callable[[], None] = lambda: None,
) -> list[Committee]:  # fmt: skip
    """The reference, and behind it ever cheaper settings of the members that save most at the promised risk here."""
    right = right_answers(pool, aim)
    best, lowest = [], _cost(pool, aim, goal)
    for members in candidates(pool, space, goal):
        committee = template(pool, members, space)
        if costs.worst(_costs(pool, committee, goal), committee.gates) <= goal.worst:
            saving, path = _front(pool, committee, right, space, goal, promise)
            if saving < lowest:
                best, lowest = path, saving
        tick()
    return [aim, *best]


def _front(
    pool: Pool, committee: Committee, reference_right: np.ndarray, space: Space, goal: Goal, promise: Guarantee
) -> tuple[float, list[Committee]]:
    """(cost of the cheapest setting that keeps the promise on these images, settings by rising loss)."""
    if len(committee.members) > space.largest:
        return np.inf, []
    answers, confidences = stages(committee, pool.stacked(committee.members))
    lost = reference_right[:, None] & ~are_right(answers, pool.labels[:, None])
    found = sweep(confidences, lost, space.percentiles)
    cost, losses = found.average(_costs(pool, committee, goal)).ravel(), found.score.ravel()
    front = cheapest(-losses, cost)
    kept = [cost[setting] for setting in front if passes(int(losses[setting]), pool.size, promise)]
    if not kept:
        return np.inf, []
    gates = dict.fromkeys(found.gates(int(setting)) for setting in _with_safer(front, found.shape))
    return min(kept), [dataclasses.replace(committee, gates=each) for each in gates]


def _with_safer(front: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The front behind a few settings between never and its first; thinned out where it is long."""
    if len(front) > _LONGEST:
        front = front[np.unique(np.linspace(0, len(front) - 1, _LONGEST).round().astype(int))]
    if not shape:
        return front
    first, last = np.asarray(np.unravel_index(front[0], shape)), np.asarray(shape) - 1
    safer = [np.ceil(first + share * (last - first)).astype(int) for share in _BETWEEN]
    return np.concatenate([[np.ravel_multi_index(tuple(places), shape) for places in safer], front])


def _costs(pool: Pool, committee: Committee, goal: Goal) -> Sequence[float]:
    return [pool.cost(member, goal.measure) for member in committee.members]


def _cost(pool: Pool, committee: Committee, goal: Goal) -> float:
    stage = decide(committee, pool.stacked(committee.members)).stage
    return costs.average(_costs(pool, committee, goal), stage)


def reference(pool: Pool, kind: str, space: Space, goal: Goal) -> Committee:
    """The full ensemble of all members, or the dearest member alone."""
    by_cost = sorted(pool.members, key=lambda member: pool.cost(member, goal.measure))
    if kind == "ensemble":
        return template(pool, by_cost, space)
    if kind == "largest":
        return template(pool, by_cost[-1:], space)
    if kind in pool.members:
        return template(pool, [kind], space)
    raise UserError(f"--reference={kind} is neither ensemble, nor largest, nor a member: {', '.join(pool.members)}")


def stops_early(committee: Committee) -> bool:
    return any(gate < NEVER for gate in committee.gates)
