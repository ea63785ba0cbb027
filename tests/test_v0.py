"""Files of version 0.1.0 in tests/fixtures/v0: each is read, and each run continues where it stopped.

`tests/fixtures/write_v0.py` wrote them, with what that version answered, into recorded.json.
"""

import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dico_tf import config
from dico_tf.evaluation import predictions, scene_predictions
from dico_tf.export import manifest
from tests.fixtures import v0_data

OLD = Path(__file__).parent / "fixtures" / "v0"
RECORDED = json.loads((OLD / "recorded.json").read_text(encoding="utf-8"))
QUICK = ("own", "independent")
RUNS = [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in RECORDED["continued"]]
CLASSIFIERS = [name for name in RECORDED["continued"] if name != "video" and "segmentation" not in name]


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
    reader = scene_predictions if "segmentation" in name else predictions
    before, logits = read(folder / "evaluation.json"), reader.read(folder / "predictions_test.npz").logits
    status, _, err = here("evaluate", f"--workdir={folder}")
    assert status == 0, err
    assert differences(read(folder / "evaluation.json"), before) == []
    now = reader.read(folder / "predictions_test.npz").logits
    np.testing.assert_allclose(now.astype(np.float32), logits.astype(np.float32), atol=2e-3)
    rows = (folder / "metrics.jsonl").read_text().splitlines()
    words = [f"--flagfile={folder}/run.flags", f"--workdir={folder}", "--max_steps=4"]
    status, out, err = here("train", *words)
    assert status == 0, err
    assert "continuing from step 3, epoch 2" in out and "refused" not in out
    kept, added = (folder / "metrics.jsonl").read_text().splitlines()
    assert [kept] == rows
    assert differences(json.loads(added), RECORDED["continued"][name]) == []
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["step_4"]


def test_a_run_with_a_removed_setting_away_from_its_default_ends_in_one_message(here, monkeypatch):
    monkeypatch.setattr(config, "REMOVED", {"cascade_aware": False})
    unpack("runs/cascade_aware")
    status, _, err = here("evaluate", "--workdir=runs/cascade_aware")
    assert status == 2 and err.count("\n") == 1
    assert "runs/cascade_aware was made by an earlier version with --cascade_aware=True, which this version" in err


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
