"""Training on photos of many sizes, whose windows are cut out when they are decoded."""

import dataclasses
import shutil
import weakref
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dico_tf.config import Config, from_values
from dico_tf.data import memory_budget
from dico_tf.data import source as sources
from dico_tf.errors import UserError
from dico_tf.evaluation.averaging import combine, softmax
from dico_tf.evaluation.evaluate import evaluate_split, load_splits, summarize
from dico_tf.evaluation.predict import predict
from dico_tf.files import tables
from dico_tf.training.build import trained_run
from dico_tf.training.loop import Loop
from dico_tf.training.run import train
from tests.data import streets

pytestmark = pytest.mark.slow  # trains or starts several processes

SIZE = 72  # above 64: evaluation takes the centre of a picture resized to 82


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    draw = np.random.default_rng(0)
    for kind, brightness in (("dark", 40), ("light", 160)):
        (folder / kind).mkdir()
        for n in range(20):
            width, height = draw.integers(80, 200, 2)
            coarse = draw.integers(brightness, brightness + 60, (6, 6, 3), np.uint8)
            Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(folder / kind / f"{n}.jpg")
    return folder


def _config(photos: Path, workdir: Path, **others) -> Config:
    values = {
        "dataset": f"folder:{photos}",
        "image_size": SIZE,
        "validation": 4,
        "model": "wrn_tiny",
        "splits": 2,
        "views": ("simple_crop+flip", "resized_crop:0.3+erase"),
        "repeated_augmentation": 3,
        "batch_size": 8,
        "epochs": 2,
        "seed": 3,
        "lr": 0.01,
        "workdir": str(workdir),
    }
    return from_values({**values, **others})


def _trained(config: Config) -> dict[str, np.ndarray]:
    train(config, "", say=lambda line: None)
    return trained_run(config.run.workdir).arrays


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp("run") / "w"
    _trained(_config(photos, workdir))
    summarize(workdir, load_splits(trained_run(workdir)))
    return workdir


@pytest.mark.slow
@pytest.mark.parametrize("room", [0, 2**20])
def test_a_stopped_run_that_reads_files_anew_goes_on_as_one_that_kept_its_pictures(
    photos, run, tmp_path, monkeypatch, room
):
    monkeypatch.setattr(memory_budget, "AT_ONCE", 0)
    monkeypatch.setattr(memory_budget, "limit", lambda: room)
    config = _config(photos, tmp_path / "w")
    part = dataclasses.replace(config, optimisation=dataclasses.replace(config.optimisation, max_steps=6))
    train(part, "", say=lambda line: None)  # in the middle of the second epoch
    continued, want = _trained(config), trained_run(run).arrays
    assert continued.keys() == want.keys()
    assert [name for name in want if not np.array_equal(continued[name], want[name])] == []


@pytest.mark.slow
def test_a_stopped_run_on_streamed_records_goes_on_as_one_that_was_not(tmp_path, monkeypatch):
    folder = streets.prepare(tmp_path / "tfds")
    here = {"dataset": "streets", "data_dir": str(folder), "validation": 3, "epochs": 1}
    want = _trained(_config(folder, tmp_path / "whole", **here))
    monkeypatch.setattr(memory_budget, "limit", lambda: 1000)
    train(_config(folder, tmp_path / "w", **here, max_steps=2), "", say=lambda line: None)
    continued = _trained(_config(folder, tmp_path / "w", **here))
    assert [name for name in want if not np.array_equal(continued[name], want[name])] == []


def test_images_that_were_carved_are_in_memory_once(photos, tmp_path, monkeypatch):
    def loaded(*settings):
        result = load(*settings)
        whole.append(weakref.ref(result.splits["train"].images))
        return result

    whole, saved, load = [], [], sources.load
    monkeypatch.setattr(sources, "load", loaded)
    monkeypatch.setattr(Loop, "run", lambda loop: saved.append(whole[0]()))
    train(_config(photos, tmp_path / "w"), "", say=lambda line: None)
    assert saved == [None]


@pytest.mark.slow
def test_each_branch_in_its_own_order_is_cut_as_well(photos, tmp_path):
    arrays = _trained(_config(photos, tmp_path / "w", training="independent", epochs=1))
    assert all(np.isfinite(array).all() for array in arrays.values())


def test_predict_sees_a_picture_as_the_evaluation_does(photos, run):
    result = tables.read_predictions(run / "predictions_test.npz")
    trained = trained_run(run)
    assert trained.data["short_side"] == 82
    reported = list(predict(trained, [str(photos / name) for name in result.ids], top=2))
    for answer, probabilities in zip(reported, softmax(combine(result.logits, "logits")), strict=True):
        named = dict(answer.classes)
        np.testing.assert_allclose([named["dark"], named["light"]], probabilities, atol=1e-4)


def test_a_run_remembers_the_margin_it_was_evaluated_with(photos, run):
    """A change of the margin changes the fingerprint; predict uses the recorded margin."""
    trained = trained_run(run)
    squares = dataclasses.replace(trained, data={**trained.data, "short_side": SIZE})
    name = str(photos / "dark" / "0.jpg")
    with_margin, without = (next(predict(r, [name], top=2)).classes for r in (trained, squares))
    assert with_margin != without


@pytest.mark.slow
def test_a_picture_that_is_lost_during_a_run_or_before_its_evaluation_is_named(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(memory_budget, "AT_ONCE", 0)
    monkeypatch.setattr(memory_budget, "limit", lambda: 0)
    config = _config(shutil.copytree(photos, tmp_path / "photos"), tmp_path / "w", epochs=1)
    _trained(config)
    trained = trained_run(config.run.workdir)
    parts = load_splits(trained)
    lost = tmp_path / "photos" / parts["test"].ids[1]
    lost.unlink()
    with pytest.raises(UserError, match=f"cannot read {lost}: "):
        evaluate_split(trained, trained.network(), "test", parts)

    begin = Loop.resume
    monkeypatch.setattr(Loop, "resume", lambda loop: [begin(loop), shutil.rmtree(tmp_path / "photos")])
    with pytest.raises(UserError, match=f"cannot read {tmp_path / 'photos'}.*then run the same command again"):
        _trained(_config(tmp_path / "photos", tmp_path / "another", epochs=1))
