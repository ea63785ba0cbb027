"""Whatever is fitted is fitted to calibration images alone, and judged by others."""

import dataclasses
import math

import numpy as np
import pytest

from dico_tf.committee import report
from dico_tf.committee.decision import ALWAYS, Committee, ensemble
from dico_tf.committee.guarantee import Guarantee, regret
from dico_tf.committee.guaranteed_search import guaranteed_search, right_answers, stops_early
from dico_tf.committee.pool import Pool, read
from dico_tf.committee.scoring import no_dearer
from dico_tf.committee.search import Goal, Point, Space, pareto
from dico_tf.errors import UserError
from tests.committee.generated import pool

FEW = Space(percentiles=10, largest=2)


def test_the_images_that_test_a_path_had_no_part_in_laying_it():
    sample = pool(600, seed=4)
    testing = np.isin(sample.ids, sample.random_split(0.5, 7)[1].ids)
    other = dataclasses.replace(sample, labels=np.where(testing, (sample.labels + 1) % 10, sample.labels))
    space, promise = dataclasses.replace(FEW, temperatures=True, weights=True), Guarantee(risk=0.05)
    one, moved = (guaranteed_search(p, "ensemble", space, Goal(), promise, 7) for p in (sample, other))
    assert one.path == moved.path and one.reference == moved.reference
    assert one.certified != moved.certified


@pytest.mark.slow
def test_on_new_images_the_expected_loss_is_at_most_the_risk():
    """200 random splits: 300 images fit and test, the others are new."""
    population, promise, losses = pool(2000, seed=12), Guarantee(risk=0.03, kind="expected"), []
    for seed in range(200):
        sample, new = population.random_split(0.15, seed)
        found = guaranteed_search(sample, "ensemble", FEW, Goal(), promise, seed)
        losses.append(regret(right_answers(new, found.reference), right_answers(new, found.committee)).mean())
    assert 0 < np.mean(losses) <= 0.03 + 3 * np.std(losses) / math.sqrt(200)


def test_a_tiny_expected_loss_is_had_by_never_stopping_only():
    found = guaranteed_search(pool(300, seed=5), "ensemble", FEW, Goal(), Guarantee(risk=1e-4, kind="expected"))
    assert not stops_early(found.committee) and found.certified.place == 0


@pytest.mark.parametrize("cost", [5.0, 10.0, 29.0, 30.0, 1000.0])
def test_a_committee_is_held_against_the_best_single_member_of_its_price(cost):
    sample = pool(300, skill=[3.0, 2.0, 6.0])  # the second costs more than the first and knows less
    expected = {5.0: None, 10.0: "m0", 29.0: "m0", 30.0: "m0", 1000.0: "m2"}[cost]
    assert no_dearer(sample, cost, "macs") == expected
    one, other = sample.random_split(0.5, 0)
    cascade = Committee(members=("m0", "m1"), gates=(ALWAYS,))
    found = report.results(cascade, ensemble("m0", "m1", "m2"), one, other, "macs")
    assert found["best_single_no_dearer"] == "m0"


def test_of_equals_the_one_of_fewer_members_is_kept_and_then_the_first():
    def point(*members, score=5.0, cost=10.0):
        return Point(committee=ensemble(*members), quality=score / 9, score=score, cost=cost)

    first, second, pair = point("a"), point("b"), point("c", "d")
    assert pareto([pair, first, second]) == [first] and pareto([second, pair, first]) == [second]
    dear, poor = point("e", score=5.0, cost=11.0), point("f", score=4.0)
    assert pareto([dear, poor, pair]) == [pair]


def test_nothing_is_learnt_from_no_image(tmp_path):
    nothing = {"labels": np.zeros(0, int), "ids": np.zeros(0, str), "a": np.zeros((0, 10), np.float32)}
    np.savez(tmp_path / "none.npz", **nothing)
    with pytest.raises(UserError, match=r"none\.npz: expected at least one image and one class, .* \[0, 10\] for a"):
        read(tmp_path / "none.npz")
    with pytest.raises(UserError, match="expected logits of at least one member, got none"):
        Pool(logits={}, labels=nothing["labels"], ids=nothing["ids"])
