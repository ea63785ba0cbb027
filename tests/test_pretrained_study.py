"""The study of pretrained networks: its subsets, its plan, and rows from runs."""

import json
from pathlib import Path

import numpy as np

from benchmarks import cifar_subsets, study_pretrained, subset_study
from benchmarks.paired import pack, unpack
from benchmarks.study_pretrained import ARMS, LARGE, PAIR, SCRATCH, STUDY
from benchmarks.subset_study import SETTINGS, SubsetStudy, Unit, claim_first, unit_of
from dico_tf.files.tables import write_predictions


def test_right_answers_are_stored_as_text():
    right = np.random.default_rng(1).random(10_001) < 0.7
    assert (unpack(pack(right), 10_001) == right).all() and len(pack(right)) < 1700


def test_subsets_are_disjoint_nested_and_balanced():
    labels = np.random.default_rng(2).permutation(np.repeat(np.arange(10), 5000))
    orders, held_out, spare = cifar_subsets.draw(labels)
    largest = max(cifar_subsets.SIZES)
    assert [len(part) for part in (*orders, held_out, spare)] == [*[largest] * 5, 5000, 10]
    used = np.concatenate([*orders, held_out, spare])
    assert len(np.unique(used)) == len(used)
    for part in (*(order[:n] for order in orders for n in cifar_subsets.SIZES), held_out, spare):
        assert np.bincount(labels[part]).tolist() == [len(part) // 10] * 10
    again, other = cifar_subsets.draw(labels), cifar_subsets.draw(labels, seed=18)
    assert (again[0][3] == orders[3]).all() and (other[0][3] != orders[3]).any()


def test_the_arms_of_the_primary_comparison_cost_the_same_within_five_percent():
    from dico_tf.models.presets import PRESETS

    def macs(name: str, size: int) -> int:
        return PRESETS[f"efficientnet_{name}"].divided(1, "published", size, 10).cost(size, 10).macs

    pair, large = macs("lite0", 96) + macs("lite1", 96), macs("lite2", 112)
    assert (pair, large) == (162_594_112, 157_057_296)  # as the protocol says
    assert abs(large / pair - 1) < 0.05 and macs("lite2", 113) / pair > 1.05
    assert study_pretrained.lite("2@112") in ARMS[LARGE].flags
    assert study_pretrained.lite("0@96", "1@96") in ARMS[PAIR].flags
    assert study_pretrained.COMPARISONS[0] == ((PAIR, 500), (LARGE, 500))


def test_every_arm_has_as_many_trials_and_runs_after_what_it_needs():
    plan = list(STUDY.units([]))
    assert len(set(plan)) == len(plan)
    trials = {name: [unit for unit in plan if unit.arm == name and unit.trial] for name in ARMS}
    choosing = {name for name, arm in ARMS.items() if not (arm.cascade_of or arm.trials_of)}
    assert {name: len(own) for name, own in trials.items()} == {name: 4 * (name in choosing) for name in ARMS}
    assert {arm.trials for arm in ARMS.values() if "--optimizer=adamw" in arm.flags} == {study_pretrained.TRIALS}
    assert {(unit.images, unit.subset) for name in choosing - {SCRATCH} for unit in trials[name]} == {(500, 0)}
    for n, unit in enumerate(plan):
        arm, before = ARMS[unit.arm], plan[:n]
        for needed in filter(None, (arm.teacher, arm.cascade_of)):
            assert Unit(needed, unit.images, unit.subset) in before
        if not unit.trial and not arm.cascade_of:
            assert set(trials[arm.trials_of or unit.arm]) <= set(before)
    compared = {side for pair in study_pretrained.COMPARISONS for side in pair}
    assert compared == {(unit.arm, unit.images) for unit in plan if not unit.trial}


def finish(folder: Path, shift: float, splits: int) -> None:
    """Write what a finished run leaves, for 200 images of 3 classes."""
    random = np.random.default_rng(int(10 * shift))
    labels = np.arange(200) % 3
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "checkpoints").mkdir(exist_ok=True)
    for split in ("validation", "test"):
        logits = random.normal(size=(200, splits, 3)) + shift * np.eye(3)[labels][:, None]
        ids = [f"{split}_{n}" for n in range(200)]
        write_predictions(folder / f"predictions_{split}.npz", logits.astype(np.float32), labels, ids)
    top1 = float((logits.mean(1).argmax(1) == labels).mean())
    scores = {"top1": top1, "nll": 1.0, "ece": 0.1}
    evaluation = {"branches": [scores] * splits, "ensemble": scores, "diversity": {"disagreement": 0.2}}
    summary = {
        "model": "x",
        "splits": splits,
        "epochs": 1,
        "seconds": 2.0,
        "params": {"branches": 10 * splits},
        "macs": {"branches": 100 * splits},
    }
    config = {
        "format": 1,
        "config": {
            **dict.fromkeys(SETTINGS, 0.1),
            "average": "logits",
            "task": "classification",
        },
        "data": {"image_size": 32, "class_names": ["a", "b", "c"]},
    }
    for name, content in (("evaluation_test", evaluation), ("summary", summary), ("config", config)):
        (folder / f"{name}.json").write_text(json.dumps({"format": 1, **content}))


def test_the_whole_study_runs_in_order_and_chooses_by_held_out_images(tmp_path, monkeypatch, capsys):
    results, calls = tmp_path / "results.jsonl", []
    monkeypatch.setattr(SubsetStudy, "results", results)
    monkeypatch.setattr(cifar_subsets, "write", lambda folder, data_dir: None)

    def trained(words, folder, seconds):
        calls.append((folder.name, words))
        best = {"--lr=0.003", "--weight_decay=0.5"} <= set(words)
        finish(
            folder,
            shift=1.0 + 0.5 * best + 0.1 * (folder.name[-1] in "13"),
            splits=1 + (study_pretrained.lite("0@96", "1@96") in words),
        )
        return len(calls) != 3  # the third call runs out of time, and is made again

    monkeypatch.setattr(study_pretrained, "trained", trained)
    call = study_pretrained.Call(runs=str(tmp_path / "runs"), minutes=60)
    study_pretrained.go_on(call)
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    assert [unit_of(row) for row in rows] == list(STUDY.units([]))
    assert calls[2] == calls[3] and calls[0][0] == "Lite2_at_112-500-0-0.001-0.01"
    words = dict(calls)["Lite0___Lite1_co_trained-2500-3"]
    assert {"--lr=0.003", "--weight_decay=0.5", "--epochs=4", "--seed=3"} <= set(words)
    assert f"--dataset=folder:{tmp_path}/runs/data/2500_3_cascade.csv" in words
    words = dict(calls)["Lite0_distilled_from_the_co_trained-500-2"]
    assert f"--teacher={tmp_path}/runs/Lite0___Lite1_co_trained-500-2" in words
    words = dict(calls)["WRN_16_4_from_scratch-5000-0-0.05-0.0005"]
    assert {"--epochs=20", f"--dataset=folder:{tmp_path}/runs/data/5000_0_trial.csv"} <= set(words)
    folders = {folder.name for folder in (tmp_path / "runs").iterdir()}
    assert folders == {
        "locks",
        *(unit.folder for unit in STUDY.units([]) if not unit.trial and not ARMS[unit.arm].cascade_of),
    }
    assert not list((tmp_path / "runs").glob("*/checkpoints"))

    text = capsys.readouterr().out
    assert text.rstrip().endswith("Nothing is missing.") and text.count("**primary**") == 1
    assert f"| **primary**: {PAIR}, 500 images, minus {LARGE}, 500 images | 5 | 2.00 | " in text
    row = {unit_of(row): row for row in rows}[Unit(PAIR, 500, 1)]
    stored = np.load(tmp_path / "runs" / Unit(PAIR, 500, 1).folder / "predictions_test.npz")
    right = stored["logits"].mean(1).argmax(1) == stored["labels"]
    assert (unpack(row["right"], 200) == right).all() and row["ensemble_top1"] == right.mean() and row["macs"] == 200
    cascade = {unit_of(row): row for row in rows}[Unit(study_pretrained.CASCADE, 500, 1)]
    assert 100 <= cascade["macs"] <= 200 and set(cascade["members"]) <= {"branch_0", "branch_1"}

    calls.clear()
    lines, unit = results.read_text().splitlines(), Unit(LARGE, 500, 1)
    monkeypatch.setattr(subset_study, "WAIT", 0.01)
    results.write_text("".join(f"{line}\n" for line, row in zip(lines, rows, strict=True) if unit_of(row) != unit))
    with claim_first([unit], tmp_path / "runs" / "locks"):  # another call runs it
        study_pretrained.go_on(study_pretrained.Call(runs=str(tmp_path / "runs"), minutes=0.001))
    assert not calls
    results.write_text("".join(f"{line}\n" for line in lines[:11]))
    study_pretrained.go_on(study_pretrained.Call(table=True))
    text = capsys.readouterr().out
    assert not calls and f"| 500 | {LARGE} | 1 of 5 |" in text and "± ? |" in text
    assert "runs are missing, next: Unit(arm='Lite2 at 112', images=500, subset=1, trial=None)" in text


def test_nothing_is_tabled_without_a_finished_run():
    assert STUDY.tables([]) == []
