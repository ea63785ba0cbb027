"""What a comparison says: costs, differences with other test images for each seed, tables and conclusions."""

from pathlib import Path

import numpy as np
import pytest

from dico_tf import config
from dico_tf.compare import comparison
from dico_tf.compare.conclusion import comparison_table, conclusion
from dico_tf.compare.finished import FinishedRun
from dico_tf.compare.paired import paired_difference
from dico_tf.compare.plan import Arm, ArmRun, ComparisonPlan, TuningGrid
from dico_tf.compare.remaining import RemainingTime, duration
from dico_tf.errors import UserError

NO_TRIALS = TuningGrid(values={})


def plan_of(out: Path, names: str, seeds: int, grid: TuningGrid = NO_TRIALS) -> ComparisonPlan:
    arms = [Arm(name=name, flags=(), config=config.Config(), settings="") for name in names]
    return ComparisonPlan(out, arms, grid, seeds)


def run_of(right: np.ndarray, ids: np.ndarray | None = None, macs: int = 100, params: int = 10) -> FinishedRun:
    """Return a finished run with these right answers."""
    names = np.arange(len(right)).astype(str) if ids is None else ids
    scores = {"top1": float(right.mean()), "nll": 1.0, "ece": 0.1, "disagreement": 0.0}
    return FinishedRun(
        scores=scores,
        right=right,
        ids=names,
        params=params,
        macs=macs,
        seconds=1.0,
        class_names=("x", "y"),
        versions={},
    )


def compared(plan: ComparisonPlan, runs: dict[ArmRun, FinishedRun]) -> dict:
    return comparison.content(plan, runs, {}, "command", "mine.flags")


@pytest.mark.parametrize(
    ("macs", "params", "differs"), [(105, 10, False), (96, 10, False), (106, 10, True), (94, 10, True), (100, 11, True)]
)
def test_costs_that_differ_by_more_than_five_percent_are_marked(tmp_path, macs, params, differs):
    right = np.ones(4, bool)
    runs = {ArmRun("a", 0): run_of(right), ArmRun("b", 0): run_of(right, macs=macs, params=params)}
    result = compared(plan_of(tmp_path, "ab", 1), runs)
    assert result["arms"][1]["cost_differs"] is differs
    assert result["arms"][1]["cost"]["relative_macs"] == macs / 100
    assert ("not a comparison at equal cost" in comparison_table(result)) is differs
    assert "seed 0, 4 test images" in comparison_table(result)


def test_test_images_that_the_seed_draws_are_paired_by_name(tmp_path):
    random, runs = np.random.default_rng(0), {}
    right, tested = random.random((2, 4, 30)) < 0.6, np.zeros((4, 30), bool)
    for seed in range(4):
        members = np.flatnonzero((np.arange(30) + seed) % 3 > 0)
        order = random.permutation(len(members))  # names need not be sorted
        tested[seed, members] = True
        for arm, name in enumerate("ab"):
            ids = np.array([f"image_{n:02d}" for n in members[order]])
            runs[ArmRun(name, seed)] = run_of(right[arm, seed, members[order]], ids)
    (row,) = compared(plan_of(tmp_path, "ab", 4), runs)["differences"]
    expected = paired_difference(right[1], right[0], tested)
    assert (row["mean"], row["half"], row["p"]) == pytest.approx((expected.mean, expected.half, expected.p))
    assert row["images"] == 30


def test_runs_that_saw_other_images_or_classes_are_refused(tmp_path):
    plan, right = plan_of(tmp_path, "ab", 1), np.ones(3, bool)
    others = run_of(right, np.array(["x", "y", "z"]))
    with pytest.raises(UserError, match=r"b/seed_0 and a/seed_0 were tested on different images"):
        compared(plan, {ArmRun("a", 0): run_of(right), ArmRun("b", 0): others})
    other_classes = FinishedRun(**{**vars(run_of(right)), "class_names": ("y", "x")})
    with pytest.raises(UserError, match="the classes differ between the runs"):
        compared(plan, {ArmRun("a", 0): run_of(right), ArmRun("b", 0): other_classes})


def test_several_arms_are_corrected_for_their_number(tmp_path):
    random = np.random.default_rng(1)
    runs = {
        ArmRun(name, seed): run_of(random.random(300) < share)
        for seed in range(5)
        for name, share in (("a", 0.5), ("b", 0.58), ("c", 0.9))
    }
    result = compared(plan_of(tmp_path, "abc", 5), runs)
    near, far = result["differences"]
    assert far["p_holm"] == pytest.approx(2 * far["p"]) and near["p_holm"] == pytest.approx(near["p"])
    assert result["conclusion"].count(";") == 1 and "c is ahead of a by" in result["conclusion"]


def row(mean: float, half: float | None, p: float | None, p_holm: float | None, seeds: int = 5) -> dict:
    low, high = (None, None) if half is None else (mean - half, mean + half)
    return {"arm": "b", "to": "a", "mean": mean, "low": low, "high": high, "p": p, "p_holm": p_holm, "seeds": seeds}


@pytest.mark.parametrize(
    ("rows", "missing", "text"),
    [
        ([row(0.012, 0.009, 0.01, 0.01)], 0, "b is ahead of a by 1.2 points (0.3 to 2.1)."),
        ([row(-0.012, 0.009, 0.01, 0.01)], 2, "So far, b is behind a by 1.2 points (0.3 to 2.1)."),
        (
            [row(0.003, 0.008, 0.3, 0.3)],
            0,
            "No difference between b and a can be concluded (-0.5 to +1.1 points), and one of up to 1.1 points cannot "
            "be excluded.",
        ),
        (
            [row(0.012, 0.009, 0.02, 0.06), row(-0.012, 0.009, 0.01, 0.03)],
            0,
            "No difference between b and a can be concluded (+0.3 to +2.1 points): it would be significant alone, but "
            "not as one of 2 comparisons; b is behind a by 1.2 points (0.3 to 2.1).",
        ),
        (
            [row(0.012, None, None, None, seeds=1)],
            0,
            "Nothing can be concluded about b with one seed, because an interval needs at least 3.",
        ),
        ([], 4, "Nothing can be concluded yet: no two arms have a finished run with the same seed."),
    ],
)
def test_the_conclusion_says_what_is_known_and_what_is_not(rows, missing, text):
    arms = [{"name": name, "cost_differs": False} for name in "ab"]
    assert conclusion({"differences": rows, "missing": missing, "arms": arms}) == text


def test_a_value_at_the_edge_of_numbers_is_named():
    grid = TuningGrid(
        values={
            "lr": {"1e-1": 0.1, "0.3": 0.3, "1": 1.0},
            "epochs": {"5": 5},
            "schedule": {"cosine": "cosine", "step": "step"},
        }
    )
    assert len(grid.points) == 6 and grid.points[0] == {"lr": "1e-1", "epochs": "5", "schedule": "cosine"}
    edges = [grid.at_edge({"lr": lr, "epochs": "5", "schedule": "step"}) for lr in ("1e-1", "0.3", "1")]
    assert edges == [["lr"], [], ["lr"]]
    run = ArmRun("a", 0, tuple(grid.points[0].items()))
    assert run.folder == "a/seed_0/lr=1e-1,epochs=5,schedule=cosine"
    assert ArmRun("a", 0, (("init_from", "../w"),)).folder == "a/seed_0/init_from=..%2Fw"


def test_the_remaining_time_is_that_of_the_runs_of_each_arm():
    remaining, left = RemainingTime(2), [ArmRun("a", 1), ArmRun("b", 1), ArmRun("c", 1)]
    assert remaining.text(left, {}) == ""
    remaining.add(ArmRun("a", 0), 10.0)
    remaining.add(ArmRun("b", 0), 30.0)
    assert remaining.seconds(left, {left[0]: 4.0, left[1]: 2.0}) == pytest.approx(28)  # the longest; else 27
    assert remaining.seconds([*left, *left], {}) == pytest.approx(60)  # 10 + 30 + 20, twice, by two at once
    assert remaining.text(left, {}) == ", about 30 s left" and remaining.text([], {}) == ""
    assert remaining.text(left[:1], {left[0]: 11.0}) == ""  # it takes longer than the others did
    assert [duration(value) for value in (41.2, 600, 9000)] == ["41 s", "10 min", "2.5 h"]
