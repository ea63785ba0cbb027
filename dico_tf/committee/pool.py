"""Logits of every member on the same labelled images, with what each member costs: the input of a search."""

import dataclasses
import hashlib
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from dico_tf.committee import fitting
from dico_tf.committee.decision import Committee, are_right, ensemble, stages, worst_cost
from dico_tf.committee.search import Goal, Point, Space, by_cost, cheapest
from dico_tf.committee.sweep import Sweep, sweep
from dico_tf.errors import UserError
from dico_tf.evaluation.averaging import log_sum_exp
from dico_tf.evaluation.cost import Cost
from dico_tf.evaluation.metrics import checked_labels
from dico_tf.files import tables
from dico_tf.registry import suggestion


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Pool:
    """Answers of all members to the same labelled images. Raises UserError if shapes, labels or ids do not fit."""

    logits: Mapping[str, np.ndarray]  # {member: float [N, C]}
    labels: np.ndarray  # int64 [N]
    ids: np.ndarray  # str [N], each once
    costs: Mapping[str, Cost] = dataclasses.field(default_factory=dict)  # by member; unknown if missing
    name: str = ""  # of the images, for messages
    class_names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        name = self.name or "the table of logits"
        if fault := _fault(self.logits, self.labels, self.ids):
            raise UserError(f"{name}: {fault}")
        if self.class_names and len(self.class_names) != self.classes:
            raise UserError(
                f"{name}: the table has {self.classes} classes but {len(self.class_names)} class_names: "
                "give one for each class"
            )
        object.__setattr__(self, "labels", checked_labels(self.labels, len(self.labels), self.classes))
        object.__setattr__(self, "ids", np.asarray(self.ids).astype(np.str_))

    @property
    def members(self) -> tuple[str, ...]:
        return tuple(self.logits)

    @property
    def classes(self) -> int:
        return next(iter(self.logits.values())).shape[1]

    @property
    def size(self) -> int:
        return len(self.labels)

    def stacked(self, members: Sequence[str]) -> np.ndarray:
        """Return the logits [N, n, C] of these n members for the N images. Raises UserError for an unknown member."""
        for member in members:
            if member not in self.logits:
                raise UserError(f"no member {member!r} in {self.name or 'the pool'}; {suggestion(member, self.logits)}")
        return np.stack([self.logits[member] for member in members], 1)

    def cost(self, member: str, measure: str) -> float:
        return self.costs.get(member, Cost()).of(measure)

    def subset(self, positions: np.ndarray) -> "Pool":
        logits = {member: values[positions] for member, values in self.logits.items()}
        return dataclasses.replace(self, logits=logits, labels=self.labels[positions], ids=self.ids[positions])

    def random_split(self, share: float, seed: int) -> tuple["Pool", "Pool"]:
        """Return two parts that share no image, drawn at random by seed; the first has this share of the images.

        Raises UserError if a part would be empty.
        """
        order = np.random.default_rng(seed).permutation(self.size)
        cut = round(share * self.size)
        if not 0 < cut < self.size:
            raise UserError(
                f"{self.size} images cannot be split {share:g} to {1 - share:g}: one part would be empty; give more "
                "images"
            )
        return self.subset(np.sort(order[:cut])), self.subset(np.sort(order[cut:]))

    @property
    def fingerprint(self) -> str:
        """Digest of the images' ids and labels, in 16 hexadecimal digits; the members' answers are not part of it."""
        digest = hashlib.sha256(self.labels.astype("<i8").tobytes())
        digest.update("\n".join(self.ids).encode("utf-8", "surrogateescape"))
        return digest.hexdigest()[:16]

    def everyone(self, space: Space, goal: Goal) -> tuple[str, ...]:
        """Return all members by rising cost `goal.measure`; `space` has no effect."""
        return tuple(by_cost(self, goal.measure))

    def candidates(self, space: Space, goal: Goal) -> list[tuple[str, ...]]:
        """Return every combination of 1 to `space.largest` members, as `orders` does, and all members together."""
        combinations, everyone = orders(self, goal.measure, space.largest), self.everyone(space, goal)
        return combinations if len(everyone) <= space.largest else [*combinations, everyone]

    def template(self, members: Sequence[str], space: Space) -> Committee:
        """Return the ensemble of these members, whose gates a search then replaces.

        `space` sets its confidence and average. Temperatures and weights are fitted to this pool if `space` turns them
        on.
        """
        how = {"confidence": space.confidence, "average": space.average}
        logits = self.stacked(members)
        lost = [member for member in members if not np.isfinite(self.logits[member]).all()]
        if (space.temperatures or space.weights) and lost:
            raise UserError(
                f"the logits of {', '.join(lost)} contain NaN or inf, so nothing can be fitted to them; leave "
                "--temperatures and --weights out"
            )
        if space.temperatures:
            temperatures = [fitting.temperature(logits[:, k], self.labels) for k in range(len(members))]
            how["temperatures"] = tuple(temperatures)
            logits = logits / np.asarray(temperatures)[:, None]
        if space.weights and len(members) > 1:
            how["weights"] = tuple(fitting.weights(logits, self.labels).tolist())
        return ensemble(*members, **how)

    def fronts(self, space: Space, goal: Goal) -> Iterator[list[Point]]:
        """Yield, for each candidate in turn, the settings within the limits that no other beats in cost and score.

        Settings are left out if a single member within the limits costs no more and has more right answers.
        """
        floor = _Floor(self, goal)
        for members in self.candidates(space, goal):
            yield _points(self, self.template(members, space), space, goal, floor)


def _fault(logits: Mapping[str, np.ndarray], labels: np.ndarray, ids: np.ndarray) -> str:
    if not logits:
        return "expected logits of at least one member, got none"
    shapes = {member: np.shape(values) for member, values in logits.items()}
    odd = [member for member, values in logits.items() if np.ndim(values) != 2 or np.asarray(values).dtype.kind != "f"]
    if odd:
        return f"expected floats [N, C] for {odd[0]}, got {np.asarray(logits[odd[0]]).dtype} {list(shapes[odd[0]])}"
    first, *others = shapes
    if 0 in shapes[first]:
        return f"expected at least one image and one class, got logits of shape {list(shapes[first])} for {first}"
    for other in others:
        if shapes[other][1] != shapes[first][1]:
            return (
                f"{first} has {shapes[first][1]} classes and {other} {shapes[other][1]}: members of a committee must "
                "have the same classes in the same order"
            )
        if shapes[other][0] != shapes[first][0]:
            return (
                f"{first} has logits of {shapes[first][0]} images and {other} of {shapes[other][0]}: give logits of "
                "the same images in the same order"
            )
    for name, values in (("labels", labels), ("ids", ids)):
        if np.ndim(values) != 1:
            return f"expected {name} [N], one for each image, got shape {list(np.shape(values))}"
    if not len(labels) == len(ids) == shapes[first][0]:
        return (
            f"expected one label and one id for each of {shapes[first][0]} images, got {len(labels)} labels and "
            f"{len(ids)} ids"
        )
    names, counts = np.unique(np.asarray(ids), return_counts=True)
    if len(names) < len(ids):
        return f"expected each id once, got {names[counts.argmax()]} {counts.max()} times: every image must count once"
    return ""


def apart(calibration: Pool, test: Pool) -> None:
    """Raise UserError if an id is in both pools: a committee must not be tested on images it was fitted to."""
    both = np.intersect1d(calibration.ids, test.ids)
    if len(both):
        raise UserError(
            f"{len(both)} images are in the calibration and in the test images, such as {both[0]}: give other images "
            "for one of them, as a committee cannot be tested on images it was fitted to"
        )


def read(path: str | os.PathLike, costs: Mapping[str, Cost] | None = None) -> Pool:
    """Load a table of logits (.npz), such as a run's predictions; `costs` are those of members by name."""
    table = tables.read(path)
    return Pool(
        logits=table.logits,
        labels=table.labels,
        ids=table.ids,
        costs=dict(costs or {}),
        name=str(path),
        class_names=table.class_names,
    )


def orders(pool: Pool, measure: str, largest: int) -> list[tuple[str, ...]]:
    """Return every combination of 1 to `largest` members, each ordered by rising cost.

    Members of equal cost come in every order.
    """
    cost = {member: pool.cost(member, measure) for member in pool.members}
    return [
        order
        for count in range(1, min(largest, len(pool.members)) + 1)
        for order in itertools.permutations(pool.members, count)
        if all(cost[a] <= cost[b] for a, b in itertools.pairwise(order))
    ]


def explored(pool: Pool, committee: Committee, percentiles: int) -> tuple[Sweep, np.ndarray]:
    """Return all settings of a committee's gates with their numbers of right answers, and their smooth scores.

    For each gate, up to `percentiles` values are tried, and NEVER. A smooth score depends less on chance. It is the
    number of right answers plus the sum of the labels' probabilities; this total is rounded to 0.1.
    """
    answers, confidences = stages(committee, pool.stacked(committee.members))
    settings = sweep(confidences, are_right(answers, pool.labels[:, None]), percentiles)
    own = np.take_along_axis(answers, pool.labels[:, None, None], -1)[..., 0]
    with np.errstate(invalid="ignore"):  # infinity less itself is NaN, which counts as probability 0
        probabilities = np.nan_to_num(np.exp(own - log_sum_exp(answers)))
    return settings, np.round(settings.score + sweep(confidences, probabilities, percentiles).score, 1)


class _Floor:
    """Callable: costs of settings -> right answers of the best single member that costs no more.

    Only members within the goal's limits count.
    """

    def __init__(self, pool: Pool, goal: Goal) -> None:
        within = [
            member
            for member in by_cost(pool, goal.measure)
            if pool.cost(member, goal.measure) <= goal.worst
            and goal.allows(pool.cost(member, goal.measure), pool.cost(member, "milliseconds"))
        ]
        self._costs = [pool.cost(member, goal.measure) for member in within]
        right = [int(are_right(pool.logits[member], pool.labels).sum()) for member in within]
        self._right = np.maximum.accumulate([0, *right])

    def __call__(self, cost: np.ndarray) -> np.ndarray:
        return self._right[np.searchsorted(self._costs, cost * (1 + 1e-12), side="right")]


def _points(pool: Pool, committee: Committee, space: Space, goal: Goal, floor: _Floor) -> list[Point]:
    """Return the settings of a committee's gates within the limits that no other beats in cost and score.

    Settings with fewer right answers than `floor` gives for their cost are left out. Of a committee with more than
    `space.largest` members, only the ensemble is tried.
    """
    cost = [pool.cost(member, goal.measure) for member in committee.members]
    milliseconds = [pool.cost(member, "milliseconds") for member in committee.members]
    worst = worst_cost(cost, committee.gates)
    if worst > goal.worst:
        return []
    ensemble_only = len(committee.members) > space.largest
    settings, smooth = explored(pool, committee, 0 if ensemble_only else space.percentiles)
    right = settings.score.ravel()
    score = smooth.ravel() if space.score == "smooth" else right
    average, slow = settings.average(cost).ravel(), settings.average(milliseconds).ravel()
    allowed = np.flatnonzero(goal.allows(average, slow) & (right >= floor(average)))
    return [
        Point(
            committee=dataclasses.replace(committee, gates=settings.gates(int(setting))),
            quality=float(right[setting] / pool.size),
            score=float(score[setting]),
            cost=float(average[setting]),
            worst=worst,
            milliseconds=float(slow[setting]),
        )
        for setting in allowed[cheapest(score[allowed], average[allowed])]
    ]
