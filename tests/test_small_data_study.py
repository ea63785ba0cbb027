"""The study of few images: its trials, its order, and the flags of its runs."""

import json

import pytest

from benchmarks import study_small_data
from benchmarks.study_small_data import ALONE, ARMS, COTRAINED, NO_AGREEMENT, STUDY, TWO, WHOLE, next_trial
from benchmarks.subset_study import SubsetStudy, Unit, unit_of


def ranks(trials, best):
    return {trial: -float(trial != best) for trial in trials}


def test_the_fifth_trial_goes_beyond_the_edge_of_the_weight_decays_or_doubles_the_learning_rate():
    trials = ARMS[WHOLE].trials
    assert next_trial(ranks(trials, (0.05, 1e-2))) == (0.05, 0.03)
    assert next_trial(ranks(trials, (0.05, 1e-3))) == (0.05, 0.000333)
    assert next_trial(ranks(trials, (0.1, 3e-3))) == (0.2, 3e-3)
    assert next_trial(ranks(trials, (0.05, 3e-3))) is None  # with twice the learning rate it is tried already
    cotrained = ARMS[COTRAINED].trials
    assert next_trial(ranks(cotrained, (0.05, 3e-3, 0.1, 0.5))) == (0.05, 0.001, 0.1, 0.5)
    five = [*trials, (0.05, 0.03)]
    assert next_trial(ranks(five, (0.05, 0.03))) == (0.05, 0.09)
    assert next_trial(ranks(five, (0.05, 1e-2))) is None


def test_every_arm_runs_on_subsets_that_choose_nothing():
    plan = list(STUDY.units([]))
    assert len(set(plan)) == len(plan)
    assert {unit.subset for unit in plan if unit.trial} == {0}
    assert {unit.subset for unit in plan if not unit.trial} == {1, 2, 3, 4, 5}
    assert study_small_data.COMPARISONS[0] == ((COTRAINED, 2500), (WHOLE, 2500))
    sides = {side for pair in study_small_data.COMPARISONS for side in pair}
    assert {(unit.arm, unit.images) for unit in plan if not unit.trial} <= sides


def test_the_arms_cost_the_same_within_three_percent():
    from dico_tf.models.presets import PRESETS

    whole, divided = (PRESETS["wrn_16_4"].divided(s, "published", 32, 10).cost(32, 10) for s in (1, 4))
    assert (whole.params, 4 * divided.params) == (2_749_786, 2_768_488)  # as the protocol says
    assert 4 * divided.macs / whole.macs == pytest.approx(1.030, abs=5e-4)


def trial_row(unit, nll):
    return {"arm": unit.arm, "images": unit.images, "seed": 0, "trial": list(unit.trial), "ensemble_nll": nll}


FIFTH = [Unit(WHOLE, 2500, 0, (0.05, 0.03)), Unit(COTRAINED, 2500, 0, (0.05, 0.03, 0.5, 0.0))]
FOUR = [
    trial_row(Unit(name, 2500, 0, trial), 2.0 - trial[1]) for name in (WHOLE, COTRAINED) for trial in ARMS[name].trials
]


@pytest.fixture
def rows():
    """Return rows of all trials of the primary comparison: the best of the first four has the largest weight decay."""
    return [*FOUR, *(trial_row(unit, 3.0) for unit in FIFTH)]


def test_a_run_waits_for_the_trial_that_the_others_ask_for(rows):
    left = STUDY.missing(FOUR)
    assert [unit for unit in left if unit.trial and unit.images == 2500][:2] == FIFTH
    assert not STUDY.ready(Unit(WHOLE, 2500, 1), left)
    left = STUDY.missing(rows)
    assert left[0] == Unit(WHOLE, 2500, 1) and STUDY.ready(left[0], left)
    assert STUDY.chosen(rows, WHOLE, 2500) == (0.05, 1e-2)
    assert STUDY.chosen(rows, NO_AGREEMENT, 2500) == (0.05, 1e-2, 0.5, 0.0)
    assert not STUDY.ready(Unit(ALONE, 2500, 1), left)  # its own trials are missing


def test_the_flags_of_a_run_are_those_that_the_trials_chose(rows, tmp_path):
    words = study_small_data.words_of(Unit(COTRAINED, 2500, 3), rows, tmp_path)
    chosen = {"--lr=0.05", "--weight_decay=0.01", "--agreement_weight=0.5", "--agreement_warmup_epochs=0"}
    assert chosen | {"--splits=4", "--epochs=20", "--warmup_epochs=1", "--seed=3"} <= set(words)
    assert f"--dataset=folder:{tmp_path}/data/2500_3_test.csv" in words
    unit = Unit(COTRAINED, 500, 0, (0.05, 3e-3, 0.1, 0.5))
    words = study_small_data.words_of(unit, rows, tmp_path)
    assert {"--agreement_warmup_epochs=40", "--epochs=80", "--warmup_epochs=4"} <= set(words)
    assert f"--dataset=folder:{tmp_path}/data/500_0_trial.csv" in words


def test_train_knows_the_flags_of_every_arm(rows, tmp_path):
    from dico_tf import config, flags
    from dico_tf.cli.train import SCRIPT

    for name in (WHOLE, COTRAINED, NO_AGREEMENT, TWO):
        words = study_small_data.words_of(Unit(name, 2500, 1), rows, tmp_path)
        settings = config.from_values(flags.parse(SCRIPT, words)[0])
        assert settings.optimisation.batch_size == 32 and settings.optimisation.schedule == "cosine"
        assert settings.network.splits == {WHOLE: 1, TWO: 2}.get(name, 4)


def test_a_finished_run_leaves_one_row_and_no_folder(rows, tmp_path, monkeypatch):
    results = tmp_path / "results.jsonl"
    results.write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr(SubsetStudy, "results", results)
    monkeypatch.setattr(study_small_data, "trained", lambda words, folder, seconds: folder.mkdir(parents=True) or True)
    monkeypatch.setattr(
        study_small_data,
        "finished_row",
        lambda unit, folder: {"arm": unit.arm, "images": unit.images, "seed": unit.subset, "trial": unit.trial},
    )
    unit = Unit(WHOLE, 2500, 2)
    study_small_data.finish(unit, 0.0, tmp_path / "runs")
    assert unit_of(json.loads(results.read_text().splitlines()[-1])) == unit
    assert not list((tmp_path / "runs").iterdir())
