"""Video runs from folders of frames: what the scripts write, print and refuse."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from dico_tf.files import tables
from dico_tf.models.presets import PRESETS
from dico_tf.training import build
from tests.commands import Ended, command
from tests.data import films
from tests.report.pages import checked, headings

ROOT = Path(__file__).parents[2]
FILMS = [
    "--task=video",
    "--model=x3d_tiny",
    "--splits=2",
    "--frames=3",
    "--frame_rate=2",
    "--image_size=16",
    "--views=short_side,crop:1+cutout:4",
    "--batch_size=8",
    "--epochs=2",
    "--lr=0.05",
    "--schedule=constant",
    "--validation=4",
    "--seed=3",
    "--evaluation_batch_size=20",
]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Write forty films for training and twelve for the test, of 40x32 pixels."""
    result = tmp_path_factory.mktemp("films") / "light"
    films.write(result, "train", 20, frames=9, size=(40, 32))
    films.write(result, "test", 6, frames=9, size=(40, 32), seed=1)
    return result


def train(*words: str) -> Ended:
    return command("train", *FILMS, *words)


@pytest.fixture(scope="module")
def light(place, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "light"
    done = train(f"--dataset=folder:{place}", f"--workdir={folder}")
    assert done.status == 0, done.err
    assert "(36 train, 12 test, 4 validation)" in done.out and "branches disagree on" in done.out
    return folder


def read(path: Path) -> dict:
    return json.loads(path.read_text())


def rows(folder: Path) -> list[dict]:
    result = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: row[name] for name in row if name not in ("seconds", "images_per_second")} for row in result]


@pytest.mark.slow
def test_a_run_remembers_the_shape_of_its_clips(light):
    data = read(light / "config.json")["data"]
    assert (data["frames"], data["frame_rate"], data["image_size"], data["mean"]) == (3, 2, 16, [0.45] * 3)
    assert [row["step"] for row in rows(light)] == [4, 8]
    macs = PRESETS["x3d_tiny"].with_frames(3).cost(16, 2).macs
    assert read(light / "summary.json")["macs"]["whole"] == macs
    assert (light / "tensorboard").is_dir()


@pytest.mark.slow
def test_the_page_of_a_run_shows_frames_of_clips(light):
    root = checked((light / "report.html").read_text(encoding="utf-8"))
    assert {"Learning curves", "Reliability", "Classes", "Views of each branch"} <= set(headings(root))
    with np.load(light / "views.npz") as stored:
        assert stored["branch_0"].shape == stored["image"].shape == (8, 16, 16, 3)


@pytest.mark.slow
def test_views_are_averaged_before_anything_decides_and_their_cost_is_counted(light, here, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(light, folder)
    one = tables.read_predictions(folder / "predictions.npz")
    assert one.logits.shape == (12, 2, 2) and one.ids[0] == "test/brighter/film_00"
    status, out, err = here("evaluate", f"--workdir={folder}", "--test_views=2x3")
    assert status == 0, err
    assert "each video by 2 x 3 views of 16x16 pixels" in out and "test: 12 videos" in out
    result, six = read(folder / "evaluation.json"), tables.read_predictions(folder / "predictions.npz")
    branch = PRESETS["x3d_tiny"].with_frames(3).divided(2).cost(16, 2).macs
    assert result["views"] == {
        "clips": 2,
        "crops": 3,
        "size": 16,
        "macs_of_view": 2 * branch,
        "macs": 12 * branch,
    }
    run = build.trained_run(folder)
    from dico_tf.evaluation.evaluate import load_splits

    model, split = run.network(), load_splits(run)["test"]
    apart = [np.asarray(model(part.take(np.arange(12)))) for part in split.views(2, 3)]
    np.testing.assert_allclose(six.logits, np.mean(apart, axis=0), atol=1e-5)
    assert np.abs(six.logits - one.logits).max() > 0
    (alone,) = split.views(1, 1)
    np.testing.assert_allclose(one.logits, np.asarray(model(alone.take(np.arange(12)))), atol=1e-5)


@pytest.mark.slow
def test_predict_answers_for_folders_of_frames(light, place, here, tmp_path):
    folders = [str(place / "test" / kind / "film_00") for kind in ("brighter", "darker")]
    status, out, err = here("predict", f"--workdir={light}", "--json", *folders)
    assert status == 0, err
    result = [json.loads(line) for line in out.splitlines()]
    assert [answer["picture"] for answer in result] == folders
    stored = tables.read_predictions(light / "predictions.npz")
    for answer, row in zip(result, (0, 6), strict=True):
        logits = stored.logits[row].mean(0)
        p = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        assert answer["classes"][0]["probability"] == pytest.approx(p.max(), abs=1e-4)
    (tmp_path / "empty").mkdir()
    status, _, err = here("predict", f"--workdir={light}", str(tmp_path / "empty"))
    assert status == 2 and "cannot read" in err and "no frames" in err


@pytest.mark.slow
def test_export_says_that_it_knows_no_clips(light, here, tmp_path):
    status, _, err = here("export", f"--workdir={light}", f"--out={tmp_path / 'out'}")
    assert status == 2 and "a video run, but exports need one that classifies images" in err and "Traceback" not in err


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_bit_identically(light, place, tmp_path):
    """It is killed in its second epoch by a signal that cannot be caught."""
    words = [f"--dataset=folder:{place}", f"--workdir={tmp_path}", "--save_every=1"]
    process = subprocess.Popen([sys.executable, "train.py", *FILMS, *words], cwd=ROOT, stdout=-3, stderr=-3)
    until = time.monotonic() + 1200
    try:
        while not any((tmp_path / f"checkpoints/step_{n}").exists() for n in (5, 6, 7)):
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = train(*words)
    assert done.status == 0 and "continuing from step" in done.out, done.err
    a, b = (np.load(folder / "checkpoints/step_8/weights.npz") for folder in (light, tmp_path))
    assert [name for name in a.files if not np.array_equal(a[name], b[name])] == []
    assert rows(tmp_path) == rows(light)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model=x3d_tiny"], "--model=x3d_tiny is for video and --task=classification: give --task=video"),
        (["--task=video", "--model=wrn_tiny"], "give --task=classification, or a model such as x3d_tiny"),
        (["--task=video", "--model=x3d_tiny", "--dataset=digits"], "--dataset=digits has no clips for --task=video"),
        (["--model=wrn_tiny", "--frames=4"], "--frames=4 is for --task=video and contradicts --task=classification"),
        (
            ["--task=video", "--model=x3d_tiny", "--test_views=10x2"],
            "--test_views=10x2 must be CLIPSxCROPS such as 10x3",
        ),
        (["--task=video", "--model=x3d_tiny", "--dataset=folder:nowhere"], "there is no such folder"),
        (
            ["--task=video", "--model=x3d_tiny", "--dataset=moving", "--init_from=a.pth"],
            "supported for image networks only",
        ),
    ],
)
def test_what_contradicts_clips_is_one_message(words, message, here, tmp_path):
    status, _, err = here("train", "--dataset=digits", *words, f"--workdir={tmp_path / 'run'}")
    assert status == 2 and message in err and err.count("\n") == 1
