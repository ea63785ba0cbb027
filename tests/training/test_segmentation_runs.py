"""Segmentation runs from images and masks: what they write, continuing, and errors."""

import importlib
import json
import sys

import numpy as np
import pytest
from PIL import Image

from dico_tf import flags
from dico_tf.evaluation import segmentation_predictions
from dico_tf.evaluation.segmentation import ConfusionCounts, miou
from dico_tf.evaluation.segmentation_predictions import SegmentationPredictions
from tests.data import scenery
from tests.report.pages import checked, headings, table_of

SETTINGS = [
    "--task=segmentation",
    f"--void={scenery.VOID}",
    "--image_size=32",
    "--model=deeplabv3_tiny",
    "--splits=2",
    "--views=scale:0.75:1.5+crop+flip+randaugment:3",
    "--batch_size=4",
    "--epochs=2",
    "--schedule=poly",
    "--lr=0.02",
    "--evaluation_batch_size=3",
]


def called(script: str, *words: str) -> int:
    """Run a script's main in this process; return its exit status."""
    before, sys.argv = sys.argv, [f"{script}.py", *words]
    try:
        flags.run(importlib.import_module(script).main)
    except SystemExit as end:
        return int(end.code)
    finally:
        sys.argv = before


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    sizes = {"train": [(40, 32), (48, 40)] * 4, "val": [(40, 32)] * 2, "test": [(44, 36), (40, 32), (30, 30), (40, 32)]}
    root = scenery.folder(tmp_path_factory.mktemp("scenes"), sizes)
    (root / "classes.txt").write_text("sky\nroad\ncar\n")
    return root


@pytest.fixture(scope="module")
def trained(scenes, tmp_path_factory):
    """Train a run, stopped in the middle of its second epoch and continued."""
    folder = tmp_path_factory.mktemp("runs") / "scenes"
    words = [f"--dataset=folder:{scenes}", *SETTINGS, f"--workdir={folder}"]
    assert called("train", *words, "--max_steps=3") == 0
    assert called("train", *words) == 0
    return folder


def _json(path):
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_a_run_writes_what_any_run_writes_in_terms_of_pixels(trained):
    rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert [(row["epoch"], row["step"]) for row in rows] == [(0, 2), (1, 4)]
    for row in (*rows, rows[0]["validation"]):
        assert len(row["branch_miou"]) == 2 and 0 <= row["ensemble_miou"] <= 1 and 0 <= row["ensemble_accuracy"] <= 1
    assert rows[-1]["lr"] == 0  # poly has come to its end
    facts = _json(trained / "config.json")["data"]
    assert facts["frame"] == [48, 48] and facts["class_names"] == ["sky", "road", "car"]
    summary = _json(trained / "summary.json")
    best = max(rows, key=lambda row: row["validation"]["ensemble_miou"])
    assert summary["best_epoch"] == best["epoch"] and summary["status"] == "finished"
    assert summary["final"]["ensemble"] == _json(trained / "evaluation_test.json")["ensemble"]["miou"]


@pytest.mark.slow
def test_the_page_of_a_run_has_what_applies_to_pixels(trained):
    root = checked((trained / "report.html").read_text(encoding="utf-8"))
    sections = ["Learning curves", "Accuracy against cost", "Classes", "Views of each branch"]
    assert headings(root) == ["Summary", *sections, "Commands and versions"]
    assert sorted(row[0] for row in table_of(root, "IoU of each class")[1:]) == ["car", "road", "sky"]


@pytest.mark.slow
def test_an_evaluation_is_of_exactly_what_the_predictions_keep(trained):
    saved, result = (
        segmentation_predictions.read(trained / "predictions_test.npz"),
        _json(trained / "evaluation_test.json"),
    )
    assert saved.logits.shape == (4, 2, 3, 3, 3) and saved.masks.shape == (4, 48, 48)
    assert saved.sizes.tolist() == [[36, 44], [32, 40], [30, 30], [32, 40]]
    tally = ConfusionCounts(2, 3)
    for logits, mask in zip(saved.logits, saved.masks, strict=True):
        tally.add(logits, mask)
    assert np.array_equal(saved.confusion[:2], tally.branches)
    assert [branch["miou"] for branch in result["branches"]] == [miou(counts) for counts in tally.branches]
    assert np.array_equal(saved.confusion[2], result["confusion"])
    assert result["macs"]["branch"] < result["macs"]["whole"]
    assert len(saved.ids) == 4 and saved.ids[0] == "test/images/000.png"


@pytest.mark.slow
def test_scores_do_not_depend_on_how_many_images_pass_at_once(trained, monkeypatch):
    from dico_tf.evaluation import evaluate_segmentation
    from dico_tf.evaluation.evaluate import load_splits
    from dico_tf.training.build import trained_run

    run = trained_run(trained)
    split = load_splits(run)["test"]
    model = run.network()
    before = _json(trained / "evaluation_test.json")
    for size in (1, 4):
        object.__setattr__(run.config.run, "evaluation_batch_size", size)
        result = evaluate_segmentation.evaluate(run, model, "test", split)[1]
        assert result["ensemble"]["miou"] == pytest.approx(before["ensemble"]["miou"], abs=2e-3)  # float32 sums differ


@pytest.mark.slow
def test_pictures_are_answered_by_shares_and_masks(trained, scenes, tmp_path, capsys):
    pictures = [str(scenes / f"test/images/{n:03d}.png") for n in range(2)]
    assert called("predict", f"--workdir={trained}", f"--masks={tmp_path / 'm'}", "--json", *pictures) == 0
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert {part["class"] for part in first["classes"]} <= {"sky", "road", "car"}
    assert sum(part["share"] for part in first["classes"]) == pytest.approx(1)
    mask = Image.open(second["mask"])
    assert mask.size == (40, 32) and mask.mode == "P" and np.asarray(mask).max() < 3
    assert called("predict", f"--workdir={trained}", "--top=1", *pictures) == 0
    assert "branches disagree on" in capsys.readouterr().out
    assert called("predict", f"--workdir={trained}", f"--masks={scenes / 'test/images'}", *pictures) == 2
    assert "would overwrite" in capsys.readouterr().err


@pytest.mark.slow
def test_exports_of_pixels_are_refused(trained, tmp_path, capsys):
    assert called("export", f"--workdir={trained}", f"--out={tmp_path / 'out'}") == 2
    assert "is a segmentation run, but exports need one that classifies images" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model=wrn_tiny"], "--model=wrn_tiny is for classification and --task=segmentation"),
        (["--task=classification"], "--void=9 is for --task=segmentation and contradicts --task=classification"),
        (["--mixup=0.2"], "--mixup=0.2 mixes whole images"),
        (["--views=crop,flip"], "in the same order for all"),
        (["--void=255"], "expected classes from 0 to 2 (255 means no class), got 9: give --void=9"),
        (["--dataset=cifar10"], "--dataset=cifar10 has no masks for --task=segmentation"),
    ],
)
def test_what_contradicts_itself_ends_with_one_message(scenes, tmp_path, capsys, words, message):
    assert called("train", f"--dataset=folder:{scenes}", *SETTINGS, f"--workdir={tmp_path}", *words) == 2
    text = capsys.readouterr().err
    assert message in text and "Traceback" not in text


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_as_if_it_were_not(trained, scenes, tmp_path):
    assert called("train", f"--dataset=folder:{scenes}", *SETTINGS, f"--workdir={tmp_path / 'once'}") == 0
    one, other = (np.load(folder / "best" / "weights.npz") for folder in (trained, tmp_path / "once"))
    assert one.files == other.files
    assert [name for name in one.files if not np.array_equal(one[name], other[name])] == []
    saved = [segmentation_predictions.read(folder / "predictions.npz") for folder in (trained, tmp_path / "once")]
    assert isinstance(saved[0], SegmentationPredictions) and np.array_equal(saved[0].logits, saved[1].logits)
