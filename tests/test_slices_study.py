"""The study of slices: its runs and their flags, its table, and going on after a stop."""

import json

import pytest

from benchmarks import cifar_subsets, study, study_slices
from benchmarks.study_slices import ARMS, NOISE, SLICED_QUARTER, STUDY, TAUGHT, TWICE, WHOLE
from dico_tf import config, flags


def _values(words):
    return flags.parse(flags.Script(name="train", about="", fields=flags.every_field()), words)[0]


@pytest.mark.parametrize("arm", ARMS)
def test_the_flags_of_every_arm_are_a_recipe_of_the_same_network(arm):
    words = [word.format(runs="/runs", seed=2) for word in ARMS[arm]]
    settings = config.from_values(_values(words))
    assert settings.network.model == "wrn_10_3" and settings.network.splits == (1 if arm == WHOLE else 2)
    assert settings.data.dataset == "folder:/runs/data/5000_2_cascade.csv"
    assert settings.optimisation.epochs in (15, 60, 120) and settings.optimisation.lr == 0.1
    assert settings.run.init_from == ("/runs/whole-2" if arm.startswith("slices") else "")


def test_the_bar_compares_a_quarter_of_the_epochs_with_all():
    quarter, noise = (config.from_values(_values(ARMS[arm])).optimisation for arm in (SLICED_QUARTER, NOISE))
    assert 4 * quarter.epochs == noise.epochs


def test_the_whole_is_trained_first_and_a_stopped_run_goes_on(tmp_path, monkeypatch, capsys):
    calls = []
    monkeypatch.setattr(study, "ROOT", tmp_path)
    monkeypatch.setattr(study_slices, "ROOT", tmp_path)
    monkeypatch.setattr(cifar_subsets, "write", lambda folder, data_dir: calls.append((folder, data_dir)))
    (tmp_path / "benchmarks" / "results").mkdir(parents=True)

    def trained(words, folder, seconds):
        calls.append((folder.name, words))
        finish(folder, "--splits=1" in words, next(int(w[9:]) for w in reversed(words) if w.startswith("--epochs=")))
        return len(calls) != 3  # the second run is stopped once

    monkeypatch.setattr(study, "trained", trained)
    study_slices.main([f"--runs={tmp_path}/runs", "--data_dir=cifar", "--seeds=1", "--minutes=9"])
    assert calls[0] == (tmp_path / "runs" / "data", "cifar")
    names = [name for name, _ in calls[1:]]
    assert names == ["whole-1", *["slices_a_quarter-1"] * 2, *(STUDY.folder(arm, 1) for arm in list(ARMS)[2:])]
    assert f"--init_from={tmp_path}/runs/whole-1" in calls[2][1] and not any("data_dir" in word for word in calls[2][1])
    rows = [json.loads(line) for line in STUDY.results.read_text().splitlines()]
    assert [row["arm"] for row in rows] == list(ARMS) and rows[0]["validation"] == [0.25, 0.5]
    text = capsys.readouterr().out
    assert f"| {WHOLE} | 1 | 60 | 1.00 | 1.00 | 60.00 | 60.00 |" in text
    assert f"| {SLICED_QUARTER} | 1 | 15 | 0.25 | 1.25 | 15.00 | 15.00 |" in text
    assert f"| {TAUGHT} | 1 | 15 | 0.42 | 1.42 | 15.00 | 15.00 |" in text  # the teacher adds two passes to three
    assert f"The bar: {SLICED_QUARTER} minus {NOISE} is -45.00 points (1 seeds)." in text
    assert f"Flat: {TWICE} minus {NOISE} is 60.00 points (1 seeds)." in text and "14 runs left: call again" in text


def finish(folder, whole, epochs):
    """Write what the study reads of a finished run, whose top-1 is a hundredth of its epochs."""
    folder.mkdir(parents=True, exist_ok=True)
    scores = {"top1": epochs / 100, "nll": 1.0, "ece": 0.1}
    content = {
        "evaluation_test": {
            "branches": [scores] * (1 if whole else 2),
            "ensemble": scores,
            "diversity": {"disagreement": 0.1},
        },
        "summary": {
            "model": "x",
            "splits": 1 if whole else 2,
            "epochs": epochs,
            "seconds": 1.0,
            "params": {"branches": 7},
            "macs": {"branches": 100},
        },
    }
    for name, values in content.items():
        (folder / f"{name}.json").write_text(json.dumps(values))
    epochs = [{"validation": {"ensemble_accuracy": share}} for share in (0.25, 0.5)]
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, epochs)))
