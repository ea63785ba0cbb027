"""A cascade of stored logits against the largest member: accuracy kept, multiply-adds saved.

python -m benchmarks.cascade --logits=FILE --costs=FILE
The photos are split into halves by 20 seeds; members, gates, temperatures and weights come from the first half alone,
under a budget of half the reference's multiply-adds, and are judged on the second. Figures are pooled over the seeds.
"""

import dataclasses
from pathlib import Path

import numpy as np

from dico_tf import flags
from dico_tf.committee.decision import Committee
from dico_tf.committee.inputs import read_costs
from dico_tf.committee.pool import Pool, read
from dico_tf.committee.scoring import CommitteeScores, no_dearer, scores_of
from dico_tf.committee.search import Goal, Space, chosen, search
from dico_tf.config import option
from dico_tf.errors import UserError
from dico_tf.evaluation.cost import Cost

PHOTOS = "../shared/data/nips17/logits.npz"
COSTS = {  # multiply-adds in millions of the classifiers of the photos, as their authors say
    "mobilenet_v1_0.25_128_quant": 14, "mobilenet_v1_0.5_160_quant": 77, "mobilenet_v1_0.75_192_quant": 233,
    "mobilenet_v2_1.0_224_quant": 300, "efficientnet_lite0_fp32": 407, "efficientnet_lite1_fp32": 631,
    "efficientnet_lite2_fp32": 899,
}  # fmt: skip
DIFFERENCE_BAR = -0.5  # points
COST_BAR = 0.5  # of the reference's


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measurement:
    logits: str = option(PHOTOS, "table of logits: .npz with labels, ids, and [N, C] under each member's name")
    costs: str = option("", "JSON file {member: {macs}}; not needed for the default table")
    reference: str = option("efficientnet_lite2_fp32", "member the cascade is held against")
    seeds: int = option(20, "splits into halves")
    largest: int = option(4, "members of a committee at most")
    percentiles: int = option(50, "candidates of each gate")
    plain: bool = option(True, "also without temperatures, weights and smooth scores")


SCRIPT = flags.Script(name="-m benchmarks.cascade", about=__doc__, fields=flags.of(Measurement))


@dataclasses.dataclass(frozen=True)
class Split:
    """One seed: the chosen committee and what it is held against, on one of the halves."""

    ours: CommitteeScores
    reference: CommitteeScores
    single: CommitteeScores  # the best that is no dearer, found on the first half


def of_seed(pool: Pool, asked: Measurement, space: Space, seed: int) -> dict[str, Split]:
    fitted, test = pool.halves(0.5, seed)
    goal = Goal(budget=COST_BAR * pool.cost(asked.reference, "macs"))
    committee = chosen(search(fitted, space, goal), goal)
    cost = scores_of(committee.committee, fitted, "macs").cost
    single = Committee(members=(no_dearer(fitted, cost, "macs"),))
    reference = Committee(members=(asked.reference,))
    return {
        name: Split(*(scores_of(one, part, "macs") for one in (committee.committee, reference, single)))
        for name, part in (("calibration", fitted), ("test", test))
    }


def pooled(splits: list[Split]) -> dict[str, float]:
    """Means over the seeds; `standard_error` is of the mean difference over the seeds' halves, which overlap."""
    differences = [100 * (split.ours.accuracy - split.reference.accuracy) for split in splits]
    return {
        "accuracy": float(np.mean([split.ours.accuracy for split in splits])),
        "reference_accuracy": float(np.mean([split.reference.accuracy for split in splits])),
        "single_accuracy": float(np.mean([split.single.accuracy for split in splits])),
        "difference_points": float(np.mean(differences)),
        "spread_points": float(np.std(differences, ddof=1)) if len(splits) > 1 else 0.0,
        "cost": float(np.mean([split.ours.cost for split in splits]) / np.mean([s.reference.cost for s in splits])),
        "members_reached": float(np.mean([np.count_nonzero(split.ours.reach) for split in splits])),
        "least_members_reached": min(int(np.count_nonzero(split.ours.reach)) for split in splits),
    }


def measured(pool: Pool, asked: Measurement, space: Space) -> dict[str, dict[str, float]]:
    seeds = [of_seed(pool, asked, space, seed) for seed in range(asked.seeds)]
    return {name: pooled([seed[name] for seed in seeds]) for name in ("calibration", "test")}


def main(arguments: list[str]) -> None:
    values, _ = flags.parse(SCRIPT, arguments)
    asked = Measurement(**values)
    if asked.seeds < 1:
        raise UserError(f"--seeds={asked.seeds} must be at least 1")
    if asked.logits == PHOTOS and not Path(PHOTOS).exists():
        raise UserError(f"{PHOTOS} is not here: give --logits and --costs")
    costs = read_costs(asked.costs) if asked.costs else {name: Cost(macs=1e6 * m) for name, m in COSTS.items()}
    pool = read(asked.logits, costs)
    space = Space(largest=asked.largest, percentiles=asked.percentiles)
    fitted = dataclasses.replace(space, temperatures=True, weights=True, score="smooth")
    for name, how in {"fitted": fitted, **({"plain": space} if asked.plain else {})}.items():
        report(name, measured(pool, asked, how), asked)


def report(name: str, found: dict[str, dict[str, float]], asked: Measurement) -> None:
    from benchmarks.measure import emit

    test = found["test"]
    bars = asked.logits == PHOTOS and name == "fitted"
    about = {"search": name, "seeds": asked.seeds, **{split: _rounded(of) for split, of in found.items()}}
    emit("cascade_difference", test["difference_points"], "points", DIFFERENCE_BAR if bars else None, **about)
    emit("cascade_cost", test["cost"], "of the reference's multiply-adds", COST_BAR if bars else None, lower=True,
         search=name)  # fmt: skip
    emit("cascade_members_reached", test["least_members_reached"], "members at least", 2 if bars else None, search=name)
    emit("cascade_above_single", 100 * (test["accuracy"] - test["single_accuracy"]), "points above the best single "
         "that is no dearer", 0.0 if bars else None, search=name)  # fmt: skip


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in values.items()}


if __name__ == "__main__":
    flags.run(main)
