"""Search for a cheap committee with a guarantee: seldom wrong where a reference committee is right (`--risk`).

One half of the calibration images orders gate settings from the safest to the cheapest, which is called a path. The
other half tests the settings in this order. `guarantee.py` explains the tests.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np

from dico_tf.committee.decision import NEVER, Committee, are_right, average_cost, decide, stages, worst_cost
from dico_tf.committee.guarantee import Certified, Guarantee, certify, passes, regret
from dico_tf.committee.pool import Pool
from dico_tf.committee.search import Goal, Space, cheapest, reference
from dico_tf.committee.sweep import sweep
from dico_tf.errors import UserError

_BETWEEN = (0.8, 0.6, 0.4, 0.2)  # of the way back to never: settings safer than the first of the front
_LONGEST = 200  # settings of a path


@dataclasses.dataclass(frozen=True, eq=False)
class GuaranteedCommittee:
    """A committee whose guarantee passed its test; the reference itself if no other did."""

    committee: Committee  # path[certified.place]
    reference: Committee  # path[0]
    certified: Certified
    path: list[Committee]  # settings in the order of their tests


def guaranteed_search(
    pool: Pool,
    kind: str,
    space: Space,
    goal: Goal,
    guarantee: Guarantee,
    seed: int = 0,
    tick: Callable[[], None] = lambda: None,
) -> GuaranteedCommittee:
    """Return the last setting of a path that passes the guarantee's test, before the first that fails.

    One half of the pool, drawn by seed, lays the path from the reference to the cheapest setting; the other tests it.

    Args:
        kind: of the reference: ensemble, largest, or a member's name.
        tick: called after each candidate.

    Raises:
        UserError: if that setting is beyond the goal's limits.
    """
    laying, testing = pool.random_split(0.5, seed)
    against = reference(laying, kind, space, goal)
    path = lay(laying, against, space, goal, guarantee, tick)
    right = right_answers(testing, against)
    losses = np.stack([regret(right, right_answers(testing, committee)) for committee in path])
    certified = certify(losses, guarantee)
    _check_limits(pool, path[certified.place], goal, certified)
    return GuaranteedCommittee(path[certified.place], against, certified, path)


def _check_limits(pool: Pool, committee: Committee, goal: Goal, certified: Certified) -> None:
    """Raise UserError if the certified setting, which may be the reference, costs more than the goal allows."""
    in_time = dataclasses.replace(goal, measure="milliseconds")
    for flag, limit, measured, cost in (
        ("worst_case", goal.worst, goal, lambda g: worst_cost(_costs(pool, committee, g), committee.gates)),
        ("budget", goal.budget, goal, lambda g: _cost(pool, committee, g)),
        ("latency", goal.milliseconds, in_time, lambda g: _cost(pool, committee, g)),
    ):
        if limit < math.inf and (spent := cost(measured)) > limit * (1 + 1e-12):
            more = f": the next setting needs about {certified.needed} to test it" if certified.needed else ""
            raise UserError(
                f"--risk cannot be guaranteed within --{flag}={limit:g}: the cheapest setting that passes on "
                f"{certified.images} images takes {spent:g} {measured.measure}; allow that much, or a larger --risk, "
                f"or give more images{more}"
            )


def right_answers(pool: Pool, committee: Committee) -> np.ndarray:
    """Return bool [N], whether the committee answers each image of the pool correctly."""
    return decide(committee, pool.stacked(committee.members)).right(pool.labels)


def lay(
    pool: Pool,
    against: Committee,
    space: Space,
    goal: Goal,
    guarantee: Guarantee,
    tick: Callable[[], None] = lambda: None,
) -> list[Committee]:
    """Return the path: the reference `against`, then ever cheaper settings of one combination of members.

    Of the combinations within `goal.worst`, it is the one that is cheapest within the risk on these images; if none
    costs less than the reference, the path is the reference alone. `tick` is called after each combination.
    """
    right = right_answers(pool, against)
    best, lowest = [], _cost(pool, against, goal)
    for members in pool.candidates(space, goal):
        committee = pool.template(members, space)
        if worst_cost(_costs(pool, committee, goal), committee.gates) <= goal.worst:
            cost, path = _front(pool, committee, right, space, goal, guarantee)
            if cost < lowest:
                best, lowest = path, cost
        tick()
    return [against, *best]


def _front(
    pool: Pool, committee: Committee, reference_right: np.ndarray, space: Space, goal: Goal, guarantee: Guarantee
) -> tuple[float, list[Committee]]:
    """Return (lowest cost that passes the guarantee's test on these images, settings by rising loss).

    Infinity and no settings if none passes, or if there are more members than the search allows.
    """
    if len(committee.members) > space.largest:
        return np.inf, []
    answers, confidences = stages(committee, pool.stacked(committee.members))
    lost = reference_right[:, None] & ~are_right(answers, pool.labels[:, None])
    settings = sweep(confidences, lost, space.percentiles)
    cost, losses = settings.average(_costs(pool, committee, goal)).ravel(), settings.score.ravel()
    front = cheapest(-losses, cost)
    safe = [cost[setting] for setting in front if passes(int(losses[setting]), pool.size, guarantee)]
    if not safe:
        return np.inf, []
    gates = dict.fromkeys(settings.gates(int(setting)) for setting in _with_safer(front, settings.shape))
    return min(safe), [dataclasses.replace(committee, gates=each) for each in gates]


def _with_safer(front: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return indices of settings, the safest first: four that stop less often than the front's first, then the front.

    Of a front of more than 200 settings, 200 evenly spaced ones are used. Indices are flat, in an array of `shape`.
    """
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
    return average_cost(_costs(pool, committee, goal), stage)


def stops_early(committee: Committee) -> bool:
    """Return whether any answer can be final before the last member: some gate is not NEVER."""
    return any(gate < NEVER for gate in committee.gates)
