"""Runs that start from a .keras file: its weights, what its owner froze, and continuing bit by bit."""

import json
import os
import signal
from pathlib import Path

import keras
import numpy as np
import pytest

from dico_tf.config import from_values
from dico_tf.cotrain import DiCo
from dico_tf.errors import UserError
from dico_tf.training import build
from dico_tf.training.checkpoints import Checkpoints
from tests.commands import command, succeeded
from tests.small_network import small, small_file
from tests.training.test_finetuning import IMAGES, dico, moved, trained, values

# --- what starts from a .keras file


def filled(classes: int = 10) -> keras.Model:
    """Return the small network with weights and statistics unlike new ones."""
    network = small(classes)
    draw = np.random.default_rng(5)
    network.set_weights([draw.uniform(0.5, 1.5, w.shape) for w in network.get_weights()])
    return network


def test_a_file_gives_its_weights_to_every_branch_of_its_architecture(tmp_path):
    filled().save(tmp_path / "own.keras")
    model = dico(1)
    carried = build.start_from(model, tmp_path / "own.keras")
    assert (carried.fresh, carried.unused) == ([], [])
    images = IMAGES.astype(np.float32)
    np.testing.assert_allclose(model(images)[:, 0], filled()(images), rtol=1e-5)


def test_the_file_of_one_branch_fills_all_branches(tmp_path):
    model = dico(2)
    model.branches[1].save(tmp_path / "branch.keras")
    wanted = {name.split("/", 1)[1]: a for name, a in values(model).items() if name.startswith("branch_1/")}
    other = dico(2)
    assert build.start_from(other, tmp_path / "branch.keras").fresh == []
    assert all(np.array_equal(a, wanted[name.split("/", 1)[1]]) for name, a in values(other).items())


def test_a_saved_dico_gives_each_branch_its_own_weights(tmp_path):
    model = dico(2)
    model.save(tmp_path / "both.keras")
    wanted = values(model)
    keras.utils.set_random_seed(9)
    other = DiCo(small_file(), 2, classes=10, image_size=8)
    build.start_from(other, tmp_path / "both.keras")
    assert moved(other, wanted) == set()
    with pytest.raises(UserError, match=r"is a DiCo of 2 branches and this run has 1: give --splits=2"):
        build.start_from(dico(1), tmp_path / "both.keras")


def test_a_head_for_other_classes_stays_fresh_whatever_its_name(tmp_path):
    network = filled(7)
    renamed = keras.Model(
        network.input, keras.layers.Dense(7, name="dense", activation="softmax")(network.layers[-2].output)
    )
    renamed.save(tmp_path / "own.keras")
    model = dico(1, network=str(tmp_path / "own.keras"), freeze="backbone")
    carried = build.start_from(model, tmp_path / "own.keras")
    assert carried.fresh == ["branch_0/dense/kernel", "branch_0/dense/bias"]
    assert trained(model) == {"dense"}


def test_weights_of_another_network_are_refused_with_the_first_difference(tmp_path):
    filled().save(tmp_path / "own.keras")
    model = dico(2)
    before = values(model)
    with pytest.raises(
        UserError, match=r"does not fit small.keras in 2 branches: 30 variables differ, e.g. "
    ) as caught:
        build.start_from(model, tmp_path / "own.keras")
    assert "branch_0/conv_0/kernel is (3, 3, 3, 16), expected (3, 3, 3, 1" in str(caught.value)
    assert str(caught.value).endswith("give --splits=1, or the file of a branch") and moved(model, before) == set()
    with pytest.raises(UserError, match=r"gone.keras does not exist; give a file written by model.save"):
        build.start_from(model, tmp_path / "gone.keras")
    (tmp_path / "bad.keras").write_text("no zip")
    with pytest.raises(UserError, match=r"--init_from=.*bad.keras cannot be read: "):
        build.start_from(model, tmp_path / "bad.keras")


def test_every_weight_of_a_layer_with_layers_within_is_saved_and_loaded(tmp_path):
    """Keras calls four weights of attention `kernel`."""
    image = keras.Input((8, 8, 3))
    tokens = keras.layers.Dense(16, name="tokens")(keras.layers.Reshape((64, 3))(image))
    attended = keras.layers.MultiHeadAttention(2, 8, name="attention")(tokens, tokens)
    pooled = keras.layers.GlobalAveragePooling1D()(attended)
    network = keras.Model(image, keras.layers.Dense(10, name="answer")(pooled))
    network.save(tmp_path / "own.keras")
    model = dico(1, network=str(tmp_path / "own.keras"))
    assert len(values(model)) == len(model.branches[0].variables) == 12
    assert build.start_from(model, tmp_path / "own.keras").fresh == []
    images = IMAGES.astype(np.float32)
    np.testing.assert_allclose(model(images)[:, 0], network(images), rtol=1e-4, atol=1e-3)


# --- what the owner froze


def nested_file(folder: Path, trainable: bool) -> str:
    """Write a network as Keras' guide to transfer learning builds it: a backbone called with training=False."""
    image = keras.Input((8, 8, 3))
    backbone = small()
    inner = keras.Model(backbone.input, backbone.layers[-2].output, name="inner")
    inner.trainable = trainable
    answer = keras.layers.Dense(10, name="answer")(inner(image, training=False))
    path = folder / f"nested_{trainable}.keras"
    keras.Model(image, answer).save(path)
    return str(path)


def started(file: str, **settings) -> DiCo:
    config = from_values({"model": file, "init_from": file, "image_size": 8})
    model = dico(1, network=file, **{n: tuple(v) for n, v in build.owner_frozen(config, None).items()}, **settings)
    build.start_from(model, file)
    return model


def test_layers_that_the_owner_froze_stay_frozen_and_the_head_learns(tmp_path):
    model = started(nested_file(tmp_path, trainable=False))
    assert len(model.backbones.owner_frozen) == 6
    assert trained(model) == {"answer"}


def test_a_backbone_called_in_inference_keeps_its_statistics_and_learns(tmp_path):
    model = started(nested_file(tmp_path, trainable=True))
    before = values(model)
    assert {"conv_0", "norm_0", "answer"} <= trained(model)
    assert all(np.array_equal(now, before[name]) for name, now in values(model).items() if "/moving_" in name)


def test_a_saved_dico_stays_frozen_after_loading(tmp_path):
    model = started(nested_file(tmp_path, trainable=False))
    model.save(tmp_path / "dico.keras")
    again = keras.saving.load_model(tmp_path / "dico.keras")
    assert trained(again) == {"answer"}


# --- runs

RUN = ["--dataset=digits", "--image_size=8", "--batch_size=128", "--epochs=3", "--validation=100", "--lr=0.05"]


def lines(folder: Path) -> list[dict]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{n: v for n, v in row.items() if n not in ("seconds", "images_per_second")} for row in rows]


@pytest.mark.slow
def test_a_run_says_once_that_a_file_gives_only_its_architecture(tmp_path):
    words = [*RUN, f"--model={small_file()}", "--splits=1", f"--workdir={tmp_path / 'run'}"]
    line = f"{small_file()} gives the architecture; add --init_from={small_file()} to start from its weights"
    assert succeeded("train", *words, "--max_steps=12").count(line) == 1
    assert line not in succeeded("train", *words, "--max_steps=13")


@pytest.mark.slow
def test_a_run_says_what_its_owner_froze_and_goes_on_without_the_file(tmp_path):
    file = nested_file(tmp_path, trainable=False)
    words = [*RUN, f"--model={file}", f"--init_from={file}", f"--workdir={tmp_path / 'run'}", "--splits=1"]
    output = succeeded("train", *words, "--max_steps=12")
    assert (
        f"frozen in {file}, and so in all epochs: branch_0/conv_0, " in output
        and "gives the architecture" not in output
    )
    os.remove(file)
    assert "continuing from step 12" in succeeded("train", *words, "--max_steps=14")
    first, last = (dict(np.load(tmp_path / f"run/checkpoints/step_{n}/weights.npz")) for n in (12, 14))
    assert {name.split("/")[1] for name in first if not np.array_equal(first[name], last[name])} == {"answer"}


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "lamb"])
def test_a_run_that_is_stopped_while_frozen_or_after_continues_bit_by_bit(optimizer, tmp_path, monkeypatch):
    file = small_file()
    words = [
        *RUN,
        f"--model={file}",
        f"--init_from={file}",
        "--splits=1",
        "--freeze=1",
        "--backbone_lr=0.5",
        "--ema=0.9",
        f"--optimizer={optimizer}",
        "--lr=0.01",
        "--clip_norm=1",
        "--save_every=4",
        "--epochs=2",
    ]
    succeeded("train", *words, f"--workdir={tmp_path / 'whole'}")
    pieces = f"--workdir={tmp_path / 'pieces'}"
    for stop in (4, 14):  # of 10 steps in an epoch: while the backbone is frozen, and after
        save = Checkpoints.save

        def signalled(checkpoints, model, facts, stop=stop, save=save):
            save(checkpoints, model, facts)
            if int(model.step) >= stop:
                monkeypatch.setattr(Checkpoints, "save", save)
                os.kill(os.getpid(), signal.SIGTERM)

        monkeypatch.setattr(Checkpoints, "save", signalled)
        assert command("train", *words, pieces).status == 128 + signal.SIGTERM
    assert "continuing from step" in succeeded("train", *words, pieces)
    assert lines(tmp_path / "whole") == lines(tmp_path / "pieces")
    for part in ("weights", "progress"):
        whole, stopped = (np.load(tmp_path / f"{run}/checkpoints/step_20/{part}.npz") for run in ("whole", "pieces"))
        assert [name for name in whole.files if not np.array_equal(whole[name], stopped[name])] == []
