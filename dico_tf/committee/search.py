"""Which members, in which order, with which gates: every combination, every setting, by held-out images alone."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from dico_tf.committee import costs, fitting
from dico_tf.committee.decision import Committee, are_right, ensemble, stages
from dico_tf.committee.pool import Pool
from dico_tf.committee.sweep import Sweep, sweep
from dico_tf.errors import UserError
from dico_tf.evaluation.averaging import log_sum_exp


@dataclasses.dataclass(frozen=True, kw_only=True)
class Space:
    """What is looked through."""

    largest: int = 4  # members of a committee
    percentiles: int = 100  # candidates of each gate
    confidence: str = "max_prob"
    average: str = "logits"
    temperatures: bool = False  # a temperature for each member, fitted to the calibration images
    weights: bool = False  # of the members in the mean, fitted likewise
    score: str = "right"  # of a setting: its right answers; smooth: these and the sum of the labels' probabilities


@dataclasses.dataclass(frozen=True, kw_only=True)
class Goal:
    """The most accurate within the budgets, or the cheapest that is accurate enough where `accuracy` is given."""

    measure: str = "macs"
    budget: float = math.inf  # average cost
    worst: float = math.inf  # cost of an image that all members are asked about
    milliseconds: float = math.inf  # average
    accuracy: float = math.nan


@dataclasses.dataclass(frozen=True, eq=False)
class Point:
    """A committee, and what it does on the calibration images."""

    committee: Committee
    right: int  # images
    score: float  # by which the search ranks
    cost: float  # average
    worst: float
    milliseconds: float  # average; NaN where a member's is not known
    images: int

    @property
    def accuracy(self) -> float:
        return self.right / self.images


def orders(pool: Pool, measure: str, largest: int) -> list[tuple[str, ...]]:
    """Every combination of up to `largest` members, the cheaper before the dearer; equals in every order."""
    cost = {member: pool.cost(member, measure) for member in pool.members}
    found = []
    for count in range(1, min(largest, len(pool.members)) + 1):
        for chosen in itertools.permutations(pool.members, count):
            if all(cost[a] <= cost[b] for a, b in itertools.pairwise(chosen)):
                found.append(chosen)
    return found


def template(pool: Pool, members: Sequence[str], space: Space) -> Committee:
    """The ensemble of these members, its temperatures and weights fitted to the pool."""
    how = {"confidence": space.confidence, "average": space.average}
    logits = pool.stacked(members)
    if (space.temperatures or space.weights) and not np.isfinite(logits).all():
        raise UserError(f"NaN or infinity among the logits of {', '.join(members)}: nothing can be fitted to them")
    if space.temperatures:
        found = [fitting.temperature(logits[:, k], pool.labels) for k in range(len(members))]
        how["temperatures"] = tuple(found)
        logits = logits / np.asarray(found)[:, None]
    if space.weights and len(members) > 1:
        how["weights"] = tuple(fitting.weights(logits, pool.labels).tolist())
    return ensemble(*members, **how)


def explored(pool: Pool, committee: Committee, percentiles: int) -> tuple[Sweep, np.ndarray]:
    """All settings of this committee's gates with their right answers, and their smooth scores.

    smooth: right answers and the sum of the labels' probabilities, to a tenth; these are moved less by chance.
    """
    answers, confidences = stages(committee, pool.stacked(committee.members))
    found = sweep(confidences, are_right(answers, pool.labels[:, None]), percentiles)
    own = np.take_along_axis(answers, pool.labels[:, None, None], -1)[..., 0]
    with np.errstate(invalid="ignore"):  # infinity less itself: such an answer is no number, and gives nothing
        probabilities = np.nan_to_num(np.exp(own - log_sum_exp(answers)))
    return found, np.round(found.score + sweep(confidences, probabilities, percentiles).score, 1)


def search(pool: Pool, space: Space, goal: Goal, tick: Callable[[], None] = lambda: None) -> list[Point]:
    """The front of all points that keep to the goal's limits: no other is as cheap and scores as much.

    Sorted by cost. The full ensemble of all members is in the space, too, however many they are. No point has fewer
    right answers than a single member that is no dearer, whatever the score.
    """
    _check(pool, goal)
    floor = _Floor(pool, goal)
    front: list[Point] = []
    for members in candidates(pool, space, goal):
        front = pareto([*front, *_points(pool, template(pool, members, space), space, goal, floor)])
        tick()
    if not front:
        raise UserError(_nothing(pool, goal))
    return front


def candidates(pool: Pool, space: Space, goal: Goal) -> list[tuple[str, ...]]:
    found = orders(pool, goal.measure, space.largest)
    everyone = tuple(sorted(pool.members, key=lambda member: pool.cost(member, goal.measure)))
    return found if len(everyone) <= space.largest else [*found, everyone]


def chosen(front: Sequence[Point], goal: Goal) -> Point:
    """Of the front: by accuracy, then cost; or the cheapest that is accurate enough."""
    if math.isnan(goal.accuracy):
        return max(front, key=lambda point: (point.score, -point.cost))
    enough = [point for point in front if point.accuracy >= goal.accuracy - 1e-12]
    if not enough:
        best = max(front, key=lambda point: point.right)
        raise UserError(
            f"an accuracy of {goal.accuracy:.4f}, as --accuracy asks or as --reference has, is out of reach on the "
            f"calibration images within the limits given: {best.accuracy:.4f} is the most, by "
            f"{', '.join(best.committee.members)}"
        )
    return min(enough, key=lambda point: (point.cost, -point.score))


class _Floor:
    """Right answers of the best single member that costs no more and keeps to the goal's limits."""

    def __init__(self, pool: Pool, goal: Goal) -> None:
        within = [
            member
            for member in sorted(pool.members, key=lambda member: pool.cost(member, goal.measure))
            if pool.cost(member, goal.measure) <= min(goal.worst, goal.budget * (1 + 1e-12))
            and (goal.milliseconds == math.inf or pool.cost(member, "milliseconds") <= goal.milliseconds * (1 + 1e-12))
        ]
        self._costs = [pool.cost(member, goal.measure) for member in within]
        right = [int(are_right(pool.logits[member], pool.labels).sum()) for member in within]
        self._right = np.maximum.accumulate([0, *right])

    def __call__(self, cost: np.ndarray) -> np.ndarray:
        return self._right[np.searchsorted(self._costs, cost * (1 + 1e-12), side="right")]


def _points(pool: Pool, committee: Committee, space: Space, goal: Goal, floor: _Floor) -> Iterator[Point]:
    """Of one order of members: for each score the cheapest setting."""
    cost = [pool.cost(member, goal.measure) for member in committee.members]
    milliseconds = [pool.cost(member, "milliseconds") for member in committee.members]
    worst = costs.worst(cost, committee.gates)
    if worst > goal.worst:
        return
    many = len(committee.members) > space.largest  # then as an ensemble only
    found, smooth = explored(pool, committee, 0 if many else space.percentiles)
    score = (smooth if space.score == "smooth" else found.score).ravel()
    average, slow = found.average(cost).ravel(), found.average(milliseconds).ravel()
    kept = (average <= goal.budget * (1 + 1e-12)) & (found.score.ravel() >= floor(average))
    if goal.milliseconds < math.inf:
        kept &= slow <= goal.milliseconds * (1 + 1e-12)
    settings = np.flatnonzero(kept)
    for setting in settings[cheapest(score[settings], average[settings])]:
        gates = found.gates(int(setting))
        whole = dataclasses.replace(committee, gates=gates)
        yield Point(whole, int(found.score.flat[setting]), float(score[setting]), float(average[setting]), worst,
                    float(slow[setting]), pool.size)  # fmt: skip


def cheapest(score: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """Positions of the front of (score, cost): the cheapest for each score, where no higher score is as cheap."""
    if not len(score):
        return np.zeros(0, np.int64)
    order = np.lexsort((cost, -score))
    best = np.minimum.accumulate(cost[order])
    first = np.concatenate([[True], best[1:] < best[:-1]])
    return order[first]


def pareto(points: Sequence[Point]) -> list[Point]:
    """Those that no other beats, by cost; of equals the one with fewer members, then the first."""
    ordered = sorted(points, key=lambda point: (point.cost, -point.score, len(point.committee.members)))
    front: list[Point] = []
    for point in ordered:
        if not front or point.score > front[-1].score:
            front.append(point)
    return front


def _check(pool: Pool, goal: Goal) -> None:
    unknown = [member for member in pool.members if not math.isfinite(pool.cost(member, goal.measure))]
    if unknown:
        raise UserError(f"the {goal.measure} of {', '.join(unknown)} are not known: give them with --costs, or another "
                        "--cost")  # fmt: skip
    if goal.milliseconds < math.inf:
        unknown = [member for member in pool.members if not math.isfinite(pool.cost(member, "milliseconds"))]
        if unknown:
            raise UserError(f"the milliseconds of {', '.join(unknown)} are not known: give them with --costs")


def _nothing(pool: Pool, goal: Goal) -> str:
    cheapest_member = min(pool.members, key=lambda member: pool.cost(member, goal.measure))
    limits = {"--budget": goal.budget, "--worst_case": goal.worst, "--latency": goal.milliseconds}
    said = ", ".join(f"{flag}={value:g}" for flag, value in limits.items() if value < math.inf)
    least = pool.cost(cheapest_member, goal.measure)
    return f"no committee keeps to {said}: the cheapest member, {cheapest_member}, takes {least:g} {goal.measure}"
