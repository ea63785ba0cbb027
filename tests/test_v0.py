"""Files of version 0.1.0 in tests/fixtures/v0: each is read, and each run continues where it stopped.

`tests/fixtures/write_v0.py` wrote them, with what that version answered, into recorded.json.
"""

import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from dico_tf.cotrain import DiCo
from dico_tf.evaluation import segmentation_predictions
from dico_tf.files import manifest, member_kinds, tables
from tests.edge import workers
from tests.fixtures import v0_data
from tests.tiers import slow_but

OLD = Path(__file__).parent / "fixtures" / "v0"
RECORDED = json.loads((OLD / "recorded.json").read_text(encoding="utf-8"))
QUICK = ("own",)
REFUSED = "cascade_aware"  # trained with the setting of this name, which was removed
NAMES = [name for name in RECORDED["continued"] if name != REFUSED]
RUNS = slow_but(QUICK, NAMES)
CLASSIFIERS = [name for name in NAMES if name != "video" and "segmentation" not in name]
FOR_COMMITTEES = {
    "branches": ["runs/dico"],
    "members": ["runs/independent", "models", "export"],
    "scenes": ["models"],
    "cascade": [],
    "ensemble": [],
    "guarantee": [],
}


def unpack(archive: str) -> None:
    with tarfile.open(OLD / f"{archive}.tar.xz") as file:
        file.extractall(filter="data")


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("v0_data")
    v0_data.write(root)
    return root


@pytest.fixture(autouse=True)
def work(data, tmp_path, monkeypatch) -> Path:
    """A working folder with the data sets under the relative paths that the runs were trained with."""
    for name in ("pictures", "scenes", "films"):
        (tmp_path / name).symlink_to(data / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(path: str | Path) -> Any:
    return json.loads(Path(path).read_text(encoding="utf-8"))


def differences(new: Any, old: Any, where: str = "") -> list[str]:
    """Where `new` lacks a key of `old` or has another value; numbers may differ by rounding."""
    if isinstance(old, dict):
        missing = [f"{where}/{key} is missing" for key in old if key not in new]
        return missing + [d for key in old if key in new for d in differences(new[key], old[key], f"{where}/{key}")]
    if isinstance(old, list) and isinstance(new, list) and len(new) == len(old):
        return [d for n, value in enumerate(old) for d in differences(new[n], value, f"{where}/{n}")]
    number = isinstance(old, float) and isinstance(new, int | float)
    same = new == pytest.approx(old, rel=2e-3, abs=2e-3) if number else new == old
    return [] if same else [f"{where} is {new}, was {old}"]


@pytest.mark.parametrize("name", RUNS)
def test_a_run_is_evaluated_and_continues_by_one_step(name, here):
    unpack(f"runs/{name}")
    folder = Path("runs") / name
    load = segmentation_predictions.read if "segmentation" in name else tables.read_predictions
    before, logits = read(folder / "evaluation.json"), load(folder / "predictions_test.npz").logits
    status, _, err = here("evaluate", f"--workdir={folder}")
    assert status == 0, err
    assert differences(read(folder / "evaluation.json"), before) == []
    now = load(folder / "predictions_test.npz").logits
    np.testing.assert_allclose(now.astype(np.float32), logits.astype(np.float32), atol=2e-3)
    rows = (folder / "metrics.jsonl").read_text().splitlines()
    words = [f"--flagfile={folder}/run.flags", f"--workdir={folder}", "--max_steps=4"]
    status, out, err = here("train", *words)
    assert status == 0, err
    assert "continuing from step 3, epoch 2" in out and "refused" not in out
    saved, added = (folder / "metrics.jsonl").read_text().splitlines()
    assert [saved] == rows
    assert differences(json.loads(added), RECORDED["continued"][name]) == []
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["step_4"]


@pytest.mark.parametrize("script", ["evaluate", "train", "export"])
def test_a_run_with_a_removed_setting_away_from_its_default_ends_in_one_message(script, here):
    unpack(f"runs/{REFUSED}")
    words = {"train": ["--flagfile=again.flags"], "export": ["--out=out"]}
    again = Path(f"runs/{REFUSED}/run.flags").read_text().replace("--cascade_aware=true\n", "")
    Path("again.flags").write_text(again)
    status, _, err = here(script, f"--workdir=runs/{REFUSED}", *words.get(script, []))
    assert status == 2 and err.count("\n") == 1
    assert f"runs/{REFUSED} was made by an earlier version with --cascade_aware=True, which this version" in err


@pytest.mark.slow
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_run_is_exported(name, here):
    unpack(f"runs/{name}")
    status, _, err = here("export", f"--workdir=runs/{name}", "--out=out", "--compare_images=16")
    assert status == 0, err
    described = manifest.load(Path("out"))
    manifest.verify(described)
    assert described.names == [*described.branches, "committee"]
    for member in described.names:
        assert described.member(member)["metrics"]["float32"]["largest_difference"] < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("name", RECORDED["models"])
def test_a_saved_model_answers_as_it_did(name):
    unpack("models")
    model = keras.saving.load_model(f"models/{name}.keras")
    recorded = np.array(RECORDED["models"][name])
    assert isinstance(model, DiCo)
    side = v0_data.SIDE if recorded.ndim == 3 else 32
    np.testing.assert_allclose(model(v0_data.images(2, side).astype(np.float32)), recorded, rtol=1e-3, atol=1e-3)
    if name == "DiCo":
        assert int(model.optimizer.iterations) == int(model.step) == 2


@pytest.mark.parametrize("member", RECORDED["export"])
def test_an_export_is_served(member, work):
    unpack("export")
    recorded = np.array(RECORDED["export"][member])
    with workers.running(work / "export" / "manifest.json", member=member) as worker:
        answer = worker.infer({"image": v0_data.images(3)}, ["logits"], model=member)
    np.testing.assert_allclose(answer.outputs["logits"], recorded, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", FOR_COMMITTEES)
def test_a_committee_is_shown_and_knows_its_members(name, here):
    for archive in FOR_COMMITTEES[name]:
        unpack(archive)
    shutil.copy(OLD / "committees" / f"{name}.json", "committee.json")
    status, out, err = here("committee", "show", "--committee=committee.json", "--check")
    assert status == 0, err
    for member in read("committee.json")["members"]:
        assert member["name"] in out and member_kinds.current(member["kind"]) in out
    known = "every member is the one that the gates were fitted to" in out
    assert known == bool(FOR_COMMITTEES[name]), out
    assert "in another form" not in out
    assert ("promise: " in out) == (name == "guarantee")


def test_predictions_of_both_kinds_are_read_back():
    unpack("runs/independent")
    unpack("runs/segmentation")
    for split, size in (("validation", 16), ("test", 16)):
        result = tables.read_predictions(f"runs/independent/predictions_{split}.npz")
        assert result.logits.shape == (size, 2, 4) and len(set(result.ids)) == size
        assert result.labels.tolist() == sorted([0, 1, 2, 3] * 4)
    scenes = segmentation_predictions.read("runs/segmentation/predictions_test.npz")
    assert scenes.logits.shape[:2] == (4, 2) and scenes.logits.shape[-1] == 3
    assert scenes.masks.shape[0] == 4 and scenes.ids.tolist() == [f"test/images/{n}.png" for n in range(4)]
    assert scenes.confusion.sum(axis=(1, 2)).tolist() == [4 * (36 * 32 - 9)] * 3
