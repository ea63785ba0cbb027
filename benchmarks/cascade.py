"""A cascade of stored logits against the largest member: accuracy and multiply-adds.

python -m benchmarks.cascade --logits=FILE --costs=FILE
Each of 20 seeds splits the photos into halves. The first half chooses members, gates, temperatures and weights under a
budget of half the reference's multiply-adds; the second half measures them. Results are averaged over the seeds.
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
COSTS = {  # millions of multiply-adds of the photos' classifiers, as their authors state
    "mobilenet_v1_0.25_128_quant": 14, "mobilenet_v1_0.5_160_quant": 77, "mobilenet_v1_0.75_192_quant": 233,
    "mobilenet_v2_1.0_224_quant": 300, "efficientnet_lite0_fp32": 407, "efficientnet_lite1_fp32": 631,
    "efficientnet_lite2_fp32": 899,
}  # fmt: skip
DIFFERENCE_BAR = -0.5  # points
COST_BAR = 0.5  # share of the reference's multiply-adds


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measurement:
    logits: str = option(PHOTOS, "table of logits: .npz with labels, ids, and [N, C] under each member's name")
    costs: str = option("", "JSON file {member: {macs}}; not needed for the default table")
    reference: str = option("efficientnet_lite2_fp32", "member the cascade is compared with")
    seeds: int = option(20, "splits into halves")
    largest: int = option(4, "most members of a committee")
    percentiles: int = option(50, "candidate values of each gate")
    plain: bool = option(True, "measure also without temperatures, weights and smooth scores")


SCRIPT = flags.Script(name="-m benchmarks.cascade", about=__doc__, fields=flags.of(Measurement))


@dataclasses.dataclass(frozen=True)
class Split:
    """Scores on one half of one seed: of the chosen committee and of the two it is compared with."""

    ours: CommitteeScores
    reference: CommitteeScores
    single: CommitteeScores  # the best member that costs no more, chosen on the first half


def of_seed(pool: Pool, settings: Measurement, space: Space, seed: int) -> dict[str, Split]:
    """Search on one half of a seed's split; return the scores on both halves by their names."""
    calibration, test = pool.random_split(0.5, seed)
    goal = Goal(budget=COST_BAR * pool.cost(settings.reference, "macs"))
    committee = chosen(search(calibration, space, goal), goal)
    cost = scores_of(committee.committee, calibration, "macs").cost
    single = Committee(members=(no_dearer(calibration, cost, "macs"),))
    reference = Committee(members=(settings.reference,))
    return {
        name: Split(*(scores_of(one, part, "macs") for one in (committee.committee, reference, single)))
        for name, part in (("calibration", calibration), ("test", test))
    }


def pooled(splits: list[Split]) -> dict[str, float]:
    """Return means over the seeds, and the standard deviation of their difference in accuracy."""
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


def measured(pool: Pool, settings: Measurement, space: Space) -> dict[str, dict[str, float]]:
    """Return the means over all seeds for each half."""
    seeds = [of_seed(pool, settings, space, seed) for seed in range(settings.seeds)]
    return {name: pooled([seed[name] for seed in seeds]) for name in ("calibration", "test")}


def main(arguments: list[str]) -> None:
    values, _ = flags.parse(SCRIPT, arguments)
    settings = Measurement(**values)
    if settings.seeds < 1:
        raise UserError(f"--seeds={settings.seeds} must be at least 1")
    if settings.logits == PHOTOS and not Path(PHOTOS).exists():
        raise UserError(f"--logits={PHOTOS} does not exist; give --logits and --costs")
    costs = read_costs(settings.costs) if settings.costs else {name: Cost(macs=1e6 * m) for name, m in COSTS.items()}
    pool = read(settings.logits, costs)
    space = Space(largest=settings.largest, percentiles=settings.percentiles)
    tuned = dataclasses.replace(space, temperatures=True, weights=True, score="smooth")
    for name, variant in {"fitted": tuned, **({"plain": space} if settings.plain else {})}.items():
        report(name, measured(pool, settings, variant), settings)


def report(name: str, results: dict[str, dict[str, float]], settings: Measurement) -> None:
    from benchmarks.measure import emit

    test = results["test"]
    bars = settings.logits == PHOTOS and name == "fitted"
    about = {"search": name, "seeds": settings.seeds, **{split: _rounded(means) for split, means in results.items()}}
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
