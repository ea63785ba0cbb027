"""The promise is kept on populations whose risk is known."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import binom

from dico_tf.committee.decision import NEVER, Committee, average_cost, decide
from dico_tf.committee.guarantee import Certified, Guarantee, certify, needed, passes
from dico_tf.committee.guaranteed_search import (
    GuaranteedCommittee,
    guaranteed_search,
    lay,
    reference,
    right_answers,
    stops_early,
)
from dico_tf.committee.report import promise
from dico_tf.committee.search import Goal, Space
from dico_tf.committee.statistics import aurc, binomial_tail, bootstrap_gap, mcnemar, wilson
from dico_tf.errors import UserError
from tests.committee.generated import pool

RISKS = np.linspace(0, 0.1, 21)  # true risk of each setting of a path; setting 0 never loses
SPACE = Space(percentiles=30, largest=3)


def drawn(random, images):
    """Losses [settings, N] whose true means are RISKS: as gates open, images that were lost stay lost, mostly."""
    level = random.uniform(size=images)
    return level < RISKS[:, None]


@pytest.mark.parametrize("risk", [0.02, 0.05])
def test_of_a_thousand_calibrations_at_most_a_twentieth_promise_too_much(risk):
    random, promise = np.random.default_rng(0), Guarantee(risk=risk)
    broken = [RISKS[certify(drawn(random, 600), promise).place] > risk for _ in range(1000)]
    assert np.mean(broken) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 1000)


def test_a_path_whose_risk_jumps_is_not_passed_by_luck():
    """Every second setting is far too bold: one by one they would often slip through, in order they may not."""
    random, promise = np.random.default_rng(1), Guarantee(risk=0.05)
    risks = np.where(np.arange(40) % 2 == 0, 0.04, 0.055)
    risks[0] = 0
    broken = []
    for _ in range(1000):
        losses = random.uniform(size=(40, 500)) < risks[:, None]
        broken.append(risks[certify(losses, promise).place] > 0.05)
    assert np.mean(broken) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 1000)


def test_the_expected_loss_is_at_most_the_risk():
    random, promise = np.random.default_rng(2), Guarantee(risk=0.03, kind="expected")
    risks = [RISKS[certify(drawn(random, 200), promise).place] for _ in range(1000)]
    assert np.mean(risks) <= 0.03 + 3 * np.std(risks) / math.sqrt(1000)
    assert np.mean(risks) > 0.015, "it may not be bought by never stopping"


@pytest.mark.slow
def test_the_whole_search_keeps_its_promise_on_new_images():
    """Members, path and gates from 600 images each time; the true loss from 40,000 others."""
    population, promise = pool(40_000, seed=99), Guarantee(risk=0.03)
    aim = reference(population, "ensemble", SPACE, Goal())
    right = right_answers(population, aim)
    broken, early = [], []
    for seed in range(60):
        sample = population.subset(np.random.default_rng(seed).choice(population.size, 600, replace=False))
        found = guaranteed_search(sample, "ensemble", SPACE, Goal(), promise, seed)
        broken.append((right & ~right_answers(population, found.committee)).mean() > promise.risk)
        early.append(stops_early(found.committee))
    assert np.mean(broken) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 60)
    assert np.mean(early) > 0.5


def test_where_the_images_cannot_support_it_the_answer_is_never_and_how_many_would_do():
    sample = pool(200, seed=5)
    found = guaranteed_search(sample, "ensemble", SPACE, Goal(), Guarantee(risk=0.001))
    assert found.committee == reference(sample, "ensemble", SPACE, Goal()) and not stops_early(found.committee)
    assert found.certified.place == 0
    assert certify(np.zeros((2, 100), bool), Guarantee(risk=0.001)).needed >= 2995


def test_the_images_needed_are_those_with_which_it_passes():
    promise = Guarantee(risk=0.01)
    assert needed(0, 100, promise) == pytest.approx(299, rel=0.02)  # log 0.05 / log 0.99
    assert not passes(0, 298, promise) and passes(0, 299, promise)
    many = needed(1, 300, promise)
    assert passes(math.ceil(many / 300), many, promise)
    assert needed(5, 100, promise) == 0, "it loses more often than the risk: no number would do"


def test_the_path_starts_at_the_reference_and_gets_cheaper():
    sample, goal = pool(800, seed=3), Goal()
    aim = reference(sample, "ensemble", SPACE, goal)
    path = lay(sample, aim, SPACE, goal, Guarantee(risk=0.05))
    price = [sample.cost(member, "macs") for member in path[1].members]
    cost = [average_cost(price, decide(one, sample.stacked(one.members)).stage) for one in path[1:]]
    assert path[0] is aim and len(path) > 5
    assert all(a >= b - 1e-9 for a, b in itertools.pairwise(cost))
    assert all(gate == NEVER for gate in aim.gates)


def test_a_worst_case_holds_for_the_path_too():
    sample = pool(800, seed=3)
    aim = reference(sample, "largest", SPACE, Goal())
    path = lay(sample, aim, SPACE, Goal(worst=100), Guarantee(risk=0.2))
    assert all(sum(sample.cost(member, "macs") for member in one.members) <= 100 for one in path[1:])


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ({"worst": 100}, "--worst_case=100: .* takes 130 macs"),
        ({"budget": 100}, "--budget=100: .* takes 130 macs"),
        ({"milliseconds": 8}, "--latency=8: .* takes 9 milliseconds"),
    ],
)
def test_a_promise_that_only_something_too_dear_keeps_is_refused(limit, said):
    """The reference keeps it, by never stopping, but costs more than was allowed."""
    sample, goal = pool(200, seed=5), Goal(**limit)
    with pytest.raises(UserError, match=rf"--risk cannot be guaranteed within {said}; allow that much"):
        guaranteed_search(sample, "ensemble", SPACE, goal, Guarantee(risk=0.001))


@pytest.mark.parametrize("limit", [{"worst": 130}, {"budget": 125}, {"milliseconds": 9}])
def test_a_promise_within_its_limits_is_given(limit):
    sample = pool(800, seed=3)
    found = guaranteed_search(sample, "ensemble", SPACE, Goal(**limit), Guarantee(risk=0.05))
    price = [sample.cost(member, "macs") for member in found.committee.members]
    assert stops_early(found.committee) and sum(price) <= limit.get("worst", math.inf)
    stage = decide(found.committee, sample.stacked(found.committee.members)).stage
    assert average_cost(price, stage) <= limit.get("budget", math.inf)


def test_a_cheaper_member_alone_has_the_guarantee_without_an_early_exit():
    reference, member = Committee(members=("a", "b"), gates=(NEVER,)), Committee(members=("b",))
    path, guarantee = [reference, member], Guarantee(risk=0.05)
    passed = GuaranteedCommittee(member, reference, Certified(1, 3, 400, 0), path)
    assert promise(passed, guarantee).startswith("guarantee: with 95 % confidence, at most 5 % of new images")
    assert "(3 of the 400 calibration images that tested it)" in promise(passed, guarantee)
    failed = GuaranteedCommittee(reference, reference, Certified(0, 0, 50, 120), path)
    assert promise(failed, guarantee).startswith("no early exit: the reference itself is taken")
    assert "50 images tested the next setting; it would need about 120" in promise(failed, guarantee)
    hopeless = GuaranteedCommittee(reference, reference, Certified(0, 0, 50, 0), path)
    assert "more images would not help" in promise(hopeless, guarantee)


def test_a_path_whose_safest_setting_loses_is_refused():
    with pytest.raises(ValueError, match="nothing to fall back on"):
        certify(np.ones((2, 10), bool), Guarantee())


@pytest.mark.parametrize("how", [{"risk": 0.0}, {"risk": 1.0}, {"confidence": 1.0}, {"kind": "sure"}])
def test_a_promise_that_cannot_be_given(how):
    with pytest.raises(UserError, match=r"--(risk|guarantee)"):
        Guarantee(**how)


def test_tails_are_exact():
    assert binomial_tail(0, 10, 0.1) == pytest.approx(0.9**10, abs=1e-15)
    assert binomial_tail(3, 10, 0.5) == pytest.approx((1 + 10 + 45 + 120) / 1024, abs=1e-15)
    assert binomial_tail(10, 10, 0.3) == 1 and binomial_tail(-1, 10, 0.3) == 0
    for successes, trials, share in ((50, 10_000, 0.01), (480, 1000, 0.5), (3, 10**6, 1e-5)):
        assert binomial_tail(successes, trials, share) == pytest.approx(binom.cdf(successes, trials, share), rel=1e-9)


def test_mcnemar_by_hand():
    one = np.array([True] * 8 + [False] * 2 + [True] * 5)
    other = np.array([False] * 8 + [True] * 2 + [True] * 5)
    assert mcnemar(one, other) == pytest.approx(2 * (1 + 10 + 45) / 1024)
    assert mcnemar(one, one) == 1.0


def test_intervals_hold_what_they_are_of():
    low, high = wilson(50, 100)
    assert (low, high) == pytest.approx((0.40383, 0.59617), abs=1e-5)
    assert wilson(0, 10)[0] == 0 and wilson(10, 10)[1] == pytest.approx(1)
    one, other = np.arange(1000) < 900, np.arange(800) < 640
    low, high = bootstrap_gap(one, other)
    assert low < 0.1 < high and high - low == pytest.approx(2 * 1.96 * math.sqrt(0.09 / 1000 + 0.16 / 800), rel=0.1)


def test_risk_falls_with_confidence_and_never_faster_than_where_it_knows_all():
    right = np.array([True, True, False, True, False])
    assert aurc(np.array([5, 4, 3, 2, 1.0]), right) == pytest.approx((1 / 3 + 1 / 4 + 2 / 5) / 5)
    assert aurc(np.array([2, 2, 1, 1, np.nan]), right) == pytest.approx((2 * 1 / 4 + 2 / 5) / 5)
    draw = np.random.default_rng(0)
    for _ in range(20):
        right = draw.random(50) < 0.8
        sure = np.round(draw.random(50) + 0.5 * right, 1)
        best = aurc(-np.arange(50), np.sort(right)[::-1])  # of a confidence that knows which answers are wrong
        assert best <= aurc(sure, right) < aurc(-sure, right)
        assert aurc(np.full(50, 0.5), right) == pytest.approx((~right).mean())
