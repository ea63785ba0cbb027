import dataclasses
import itertools
import time

import numpy as np
import pytest

from dico_tf.committee.decision import NEVER, average_cost, decide, ensemble, stages
from dico_tf.committee.pool import apart, explored, orders
from dico_tf.committee.search import Goal, Space, chosen, search
from dico_tf.committee.sweep import sweep
from dico_tf.errors import UserError
from tests.committee.generated import pool

POOL = pool()
FEW = Space(percentiles=5)


def naive(found, space=FEW):
    """(right, average cost, worst, committee) of every combination and setting, one at a time."""
    for members in orders(found, "macs", space.largest):
        template = ensemble(*members)
        price = [found.cost(member, "macs") for member in members]
        for gates in itertools.product(*explored(found, template, space.percentiles)[0].candidates):
            committee = dataclasses.replace(template, gates=tuple(map(float, gates)))
            decision = decide(committee, found.stacked(members))
            yield (
                int((decision.classes == found.labels).sum()),
                average_cost(price, decision.stage),
                sum(price),
                committee,
            )


EVERY = list(naive(POOL))


def test_the_sweep_is_the_loop():
    template = ensemble(*POOL.members)
    found, _ = explored(POOL, template, 9)
    average, logits = found.average([10, 30, 90]), POOL.stacked(POOL.members)
    for setting in range(found.settings):
        decision = decide(dataclasses.replace(template, gates=found.gates(setting)), logits)
        assert found.score.flat[setting] == (decision.classes == POOL.labels).sum()
        assert average.flat[setting] == pytest.approx(average_cost([10, 30, 90], decision.stage), abs=1e-12)


def test_the_sweep_takes_scores_that_are_no_counts_and_rows_that_are_no_numbers():
    random = np.random.default_rng(0)
    confidences, scores = random.uniform(size=(200, 3)).astype(np.float32), random.normal(size=(200, 3))
    confidences[::7] = np.nan
    found = sweep(confidences, scores, 6)
    for setting in range(found.settings):
        passed = np.stack([confidences[:, k] >= gate for k, gate in enumerate(found.gates(setting))], 1)
        stage = np.concatenate([passed, np.ones((200, 1), bool)], 1).argmax(1)
        assert found.score.flat[setting] == pytest.approx(scores[np.arange(200), stage].sum(), abs=1e-9)


def test_a_million_settings_take_less_than_two_seconds():
    big = pool(4000, members=4, classes=20)
    answers, confidences = stages(ensemble(*big.members), big.stacked(big.members))
    right = answers.argmax(-1) == big.labels[:, None]
    started = time.process_time()
    found = sweep(confidences, right, 100)
    found.average([1.0, 2.0, 3.0, 4.0])
    assert found.settings > 1e6 and time.process_time() - started < 2


def test_the_cheaper_stand_before_the_dearer_and_equals_in_every_order():
    assert len(orders(pool(10, members=8), "macs", 4)) == 8 + 28 + 56 + 70
    same = dataclasses.replace(POOL, costs=dict.fromkeys(POOL.members, POOL.costs["m0"]))
    assert len(orders(same, "macs", 4)) == 3 + 6 + 6


@pytest.mark.parametrize("budget", [10, 15, 31, 60, 200])
def test_the_best_within_a_budget_is_that_of_brute_force(budget):
    best = max((right, -cost) for right, cost, _, _ in EVERY if cost <= budget)
    found = chosen(search(POOL, FEW, Goal(budget=budget)), Goal(budget=budget))
    assert (found.score, -found.cost) == pytest.approx(best, abs=1e-9)


MOST = max(right for right, *_ in EVERY) / POOL.size


@pytest.mark.parametrize("accuracy", [0.5, MOST - 0.05, MOST])
def test_the_cheapest_that_is_accurate_enough_is_that_of_brute_force(accuracy):
    least = min((cost, -right) for right, cost, _, _ in EVERY if right >= accuracy * POOL.size)
    found = chosen(search(POOL, FEW, Goal(target=accuracy)), Goal(target=accuracy))
    assert (found.cost, -found.score) == pytest.approx(least, abs=1e-9)


def test_no_point_of_the_front_is_beaten_and_every_other_is():
    front = search(POOL, FEW, Goal())
    kept = [(point.score, point.cost) for point in front]
    assert kept == sorted(kept, key=lambda point: point[1]) == sorted(kept)
    for right, cost, _, _ in EVERY:
        better = [point for point in kept if point[0] >= right and point[1] <= cost + 1e-9]
        assert better, (right, cost)
        assert not any(right >= r and cost <= c and (right > r or cost < c - 1e-9) for r, c in kept)


def test_each_point_is_what_its_committee_does():
    for point in search(POOL, Space(percentiles=20), Goal()):
        decision = decide(point.committee, POOL.stacked(point.committee.members))
        price = [POOL.cost(member, "macs") for member in point.committee.members]
        assert point.score == (decision.classes == POOL.labels).sum() == round(point.quality * POOL.size)
        assert point.cost == pytest.approx(average_cost(price, decision.stage))
        assert point.worst == sum(price)


@pytest.mark.parametrize("budget", [10, 40, 90, 130])
def test_at_a_budget_no_single_and_no_ensemble_is_better(budget):
    best = chosen(search(POOL, FEW, Goal(budget=budget)), Goal(budget=budget))
    for members in orders(POOL, "macs", 3):
        plain = decide(ensemble(*members), POOL.stacked(members))
        if sum(POOL.cost(member, "macs") for member in members) <= budget:
            assert best.score >= (plain.classes == POOL.labels).sum()


def test_the_worst_case_is_kept_to_and_what_cannot_be_is_said():
    assert all(point.worst <= 100 for point in search(POOL, FEW, Goal(worst=100)))
    with pytest.raises(UserError, match="--worst_case=5: the cheapest member, m0, takes 10 macs"):
        search(POOL, FEW, Goal(worst=5))
    with pytest.raises(UserError, match=r"--budget=9\.5: the cheapest member, m0, takes 10 macs"):
        search(POOL, FEW, Goal(budget=9.5))
    with pytest.raises(UserError, match=r"keeps to --latency=0\.01: the fastest member, m0, takes 1 millisec"):
        search(POOL, FEW, Goal(milliseconds=0.01))
    with pytest.raises(UserError, match=r"reaches --accuracy=1\.0100 .*: the best has 0\.\d{4}"):
        chosen(search(POOL, FEW, Goal(target=1.01)), Goal(target=1.01))


def test_average_milliseconds_are_a_limit_of_their_own():
    for point in search(POOL, FEW, Goal(milliseconds=2.5)):
        decision = decide(point.committee, POOL.stacked(point.committee.members))
        price = [POOL.cost(member, "milliseconds") for member in point.committee.members]
        assert average_cost(price, decision.stage) <= 2.5


def test_costs_that_are_not_known_are_asked_for():
    nameless = dataclasses.replace(POOL, costs={})
    with pytest.raises(UserError, match="the macs of m0, m1, m2 are not known: give them with --costs"):
        search(nameless, FEW, Goal())


def test_more_members_than_a_committee_may_have_are_there_as_an_ensemble():
    many = pool(members=6, skill=[2.0] * 6)
    found = search(many, Space(largest=1, percentiles=5), Goal())
    assert found[-1].committee.members == many.members and found[-1].committee.kind == "ensemble"


def test_fitting_helps_members_of_different_scales():
    odd = dataclasses.replace(POOL, logits=POOL.logits | {"m2": POOL.logits["m2"] / 20})
    plain, fitted = (
        chosen(search(odd, dataclasses.replace(FEW, temperatures=fit), Goal(budget=80)), Goal()) for fit in (0, 1)
    )
    assert fitted.score > plain.score
    assert fitted.committee.temperatures and not plain.committee.temperatures


def test_images_that_fitted_a_committee_may_not_judge_it():
    one, other = POOL.random_split(0.5, 0)
    apart(one, other)
    with pytest.raises(UserError, match="2 images are in the calibration and in the test images"):
        apart(one.subset(np.arange(10)), POOL.subset(np.flatnonzero(np.isin(POOL.ids, one.ids[:2]))))


def test_never_is_a_candidate_of_every_gate_and_so_is_to_let_all_pass():
    found, _ = explored(POOL, ensemble(*POOL.members), 5)
    _, confidences = stages(ensemble(*POOL.members), POOL.stacked(POOL.members))
    for k, candidates in enumerate(found.candidates):
        assert candidates[0] == confidences[:, k].min() and candidates[-1] == NEVER


@pytest.mark.parametrize("seed", range(7))
def test_no_choice_loses_to_a_single_member_that_is_no_dearer(seed):
    """Confidences that are shuffled, and surer the worse a member is: what a smooth score is misled by."""
    random, found = np.random.default_rng(seed), pool(64, seed=seed, skill=[2.0, 2.2, 2.4])
    logits = {}
    for k, member in enumerate(found.members):
        scales = random.permutation(np.geomspace(0.1, 10, found.size)).astype(np.float32) * 4.0 ** (2 - k)
        logits[member] = found.logits[member] * scales[:, None]
    found = dataclasses.replace(found, logits=logits)
    right = {member: (values.argmax(-1) == found.labels).sum() for member, values in logits.items()}
    for space, budget in itertools.product(
        (Space(percentiles=8, score="smooth"), Space(percentiles=8, score="smooth", temperatures=True, weights=True)),
        (10, 30, 45, 90, np.inf),
    ):
        front = search(found, space, Goal(budget=budget))
        for point in (*front, chosen(front, Goal(budget=budget))):
            no_dearer = [right[member] for member in found.members if found.cost(member, "macs") <= point.cost]
            assert point.quality * found.size >= max(no_dearer) - 1e-6, (budget, point)
