"""A network of one's own in the place of a preset: from its file to a run that needs the file no more."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from dico_tf import config
from dico_tf.cotrain import DiCo
from dico_tf.errors import UserError
from dico_tf.models import audit, custom
from dico_tf.models.presets import find
from tests.small_network import small_file

ROOT = Path(__file__).parents[2]
IMAGES = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3)).astype(np.uint8)


def small(side: int | None = None, classes: int = 4) -> keras.Model:
    image = keras.Input((side, side, 3))
    x = layers.Conv2D(32, 3, padding="same")(layers.Rescaling(1 / 255)(image))
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Add()([x, layers.Conv2D(32, 3, padding="same", groups=4)(x)])
    x = layers.Dropout(0.2, name="dropout")(layers.GlobalAveragePooling2D()(layers.Conv2D(64, 3, activation="relu")(x)))
    return keras.Model(image, layers.Dense(classes, activation="softmax", name="scores")(x), name="small")


@pytest.fixture
def file(tmp_path) -> str:
    small().save(tmp_path / "small.keras")
    return str(tmp_path / "small.keras")


@pytest.mark.slow
def test_branches_cost_what_the_whole_does_and_answer_logits_of_raw_pixels(file):
    model = DiCo(model=file, splits=2, classes=4, image_size=16)
    params = [sum(v.numpy().size for v in branch.trainable_variables) for branch in model.branches]
    assert params[0] == params[1] and sum(params) == pytest.approx(small().count_params(), rel=0.02)
    logits = model.predict(IMAGES, verbose=0)
    assert logits.shape == (8, 2, 4) and logits.dtype == np.float32
    assert not np.allclose(logits.sum(axis=-1), 1), "no softmax stands before the loss"
    assert [tensor.name for branch in model.branches for tensor in branch.inputs] == ["image", "image"]


@pytest.mark.slow
def test_it_trains_and_is_saved_without_the_file(file, tmp_path):
    model = DiCo(model=file, splits=2, classes=4, image_size=16, views=["flip"])
    model.compile(keras.optimizers.SGD(0.05))
    model.fit(IMAGES, np.arange(8) % 4, batch_size=4, verbose=0)
    model.save(tmp_path / "dico.keras")
    Path(file).unlink()
    again = keras.saving.load_model(tmp_path / "dico.keras")
    assert np.array_equal(again.predict(IMAGES, verbose=0), model.predict(IMAGES, verbose=0))


def test_a_seed_gives_the_same_weights_whether_or_not_the_division_is_planned_anew():
    path, weights = small_file(), []
    custom._plan.cache_clear()
    for _ in range(2):
        keras.utils.set_random_seed(0)
        weights.append(DiCo(path, 2, classes=5).get_weights())
    assert all(np.array_equal(one, other) for one, other in zip(*weights, strict=True))


@pytest.mark.slow
def test_the_audit_is_a_presets(file):
    settings = {"model": file, "splits": 3, "dataset": "mine", "image_size": 16, "classes": 9, "division": "macs"}
    report = audit.one(config.from_values(settings))
    assert report["model"] == "small.keras" and report["division"] == "macs" and abs(report["distance"]) <= 0.02
    assert report["total_macs"] == 3 * report["branches"][0]["macs"]
    assert report["changes"]["scores"] == [4, 9], "a new head"
    assert report["regularisation"] == {"dropout": pytest.approx([0.2, 0.2 / np.sqrt(3)])}
    assert "divided by 3 (by macs" in audit.describe(report)


@pytest.mark.slow
def test_without_a_published_rule_the_budget_is_parameters(file):
    report = audit.one(config.from_values({"model": file, "splits": 2, "dataset": "digits"}))
    assert report["division"] == "params" and abs(report["distance"]) <= 0.02


@pytest.mark.slow
def test_a_run_goes_on_and_is_evaluated_when_the_file_is_gone(file, tmp_path):
    def run(script: str, *words: str) -> str:
        done = subprocess.run([sys.executable, script, *words], cwd=ROOT, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    words = [f"--model={file}", "--splits=2", "--dataset=digits", "--views=crop", "--epochs=2", "--batch_size=256"]
    words += ["--validation=100", f"--workdir={tmp_path / 'run'}"]
    run("train.py", *words, "--max_steps=5")
    Path(file).unlink()
    assert "continuing" in run("train.py", *words)
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["status"] == "finished" and summary["params"]["branches"] > 0
    assert "ensemble" in run("evaluate.py", f"--workdir={tmp_path / 'run'}", "--split=test")


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (lambda: small(side=24), "takes images of 24x24 pixels, got 16x16: give --image_size=24"),
        (
            lambda: keras.Sequential([keras.Input((16, 24, 3)), layers.Flatten(), layers.Dense(4)]),
            "takes images of 16x24 pixels, expected square images",
        ),
        (lambda: keras.Sequential([keras.Input((5,)), layers.Dense(4)]), "expected one input, an image"),
        (lambda: keras.Sequential([keras.Input((None, None, 3)), layers.Conv2D(4, 3)]), "expected one output"),
        (
            lambda: keras.Sequential([small(), layers.Dense(4, activation="sigmoid")]),
            r"other\.keras ends in sigmoid: expected softmax or no activation",
        ),
        (
            lambda: keras.Sequential(
                [keras.Input((None, None, 3)), layers.Conv2D(4, 17), layers.GlobalAveragePooling2D()]
            ),
            r"other\.keras cannot take images of 16x16 pixels; give another --image_size",
        ),
    ],
)
def test_a_network_that_is_no_picture_classifier_is_refused(network, message, tmp_path):
    network().save(tmp_path / "other.keras")
    with pytest.raises(UserError, match=message):
        find(str(tmp_path / "other.keras")).divided(2, "params", 16, 4)


def test_a_file_that_is_none_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"none\.keras does not exist"):
        find(str(tmp_path / "none.keras"))
    with pytest.raises(UserError, match=r"net\.h5 is neither a preset nor a \.keras file; write one: model\.save"):
        find(str(tmp_path / "net.h5"))
    (tmp_path / "broken.keras").write_bytes(b"no zip")
    with pytest.raises(UserError, match=r"broken\.keras cannot be read"):
        find(str(tmp_path / "broken.keras"))


@pytest.mark.slow
def test_precision_is_the_files_own(file):
    with pytest.raises(UserError, match="give --precision=float32"):
        DiCo(model=file, splits=2, classes=4, image_size=16, dtype="mixed_bfloat16")
