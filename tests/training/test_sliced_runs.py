"""Runs whose branches start from slices of a trained network."""

import dataclasses
import json

import keras
import numpy as np
import pytest

from dico_tf.data import source
from dico_tf.data.pipeline import evaluation_batches
from dico_tf.training import build, run
from dico_tf.training.averaging import recalibrate
from dico_tf.training.sliced_start import start_from_slices
from tests.commands import succeeded
from tests.small_network import small, small_file

DIGITS = [
    "--dataset=digits",
    "--model=wrn_tiny",
    "--batch_size=64",
    "--validation=300",
    "--seed=4",
    "--image_size=16",
    "--views=none",
    "--lr=0.1",
    "--warmup_epochs=0",
    "--mixup=0",
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    succeeded("train", *DIGITS, "--splits=1", "--epochs=4", f"--workdir={folder}")
    return folder


def _accuracies(model, images) -> list[float]:
    batches = list(images)
    labels = np.concatenate([batch["label"] for batch in batches])
    return [
        float(np.mean(np.concatenate([branch(batch["image"]).numpy().argmax(-1) for batch in batches]) == labels))
        for branch in model.branches
    ]


@pytest.mark.slow
def test_slices_of_a_trained_network_know_more_than_noise(whole):
    trained = build.trained_run(whole)
    divided = dataclasses.replace(trained.config, network=dataclasses.replace(trained.config.network, splits=2))
    parts = run.splits(divided, source.load(divided.data, divided.run.seed))
    model = build.network(divided, trained.data)
    batches = evaluation_batches(parts["train"], 64).take(20)
    recalibrate(model, batches)
    noise = _accuracies(model, evaluation_batches(parts["validation"], 100))
    assert start_from_slices(model, whole).fresh == []
    recalibrate(model, batches)
    slices = _accuracies(model, evaluation_batches(parts["validation"], 100))
    print(noise, slices, trained.best["score"])
    assert min(slices) > max(noise) + 0.1


@pytest.mark.slow
def test_a_run_starts_from_slices_and_refuses_other_runs(whole, tmp_path, here):
    words = [*DIGITS, f"--init_from={whole}", "--init=slices", "--epochs=1", f"--workdir={tmp_path / 'run'}"]
    assert f"weights from {whole}" in succeeded("train", *words, "--splits=2")
    status, _, error = here("train", *words[:-1], "--model=resnet_tiny", "--splits=2", f"--workdir={tmp_path / 'a'}")
    assert status == 2 and f"{whole} is wrn_tiny in 1 branches, which does not fit: " in error
    assert "; give the same --model\n" in error
    words[-4] = f"--init_from={tmp_path / 'run'}"
    status, _, error = here("train", *words[:-1], "--splits=2", f"--workdir={tmp_path / 'b'}")
    assert status == 2 and "has 2 branches; expected an undivided network, such as a run with --splits=1" in error


@pytest.mark.slow
def test_the_whole_teaches_its_slices(whole, tmp_path):
    """Both flags of one whole: its channels at the start, and its answers as targets."""
    words = ["--splits=2", f"--init_from={whole}", "--init=slices", "--epochs=1", f"--workdir={tmp_path / 'run'}"]
    teaching = ["--method=distill", f"--teacher={whole}", "--label_weight=0.5"]
    printed = succeeded("train", *DIGITS, *words, *teaching)
    assert f"weights from {whole}" in printed
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    teacher = build.trained_run(whole).best["score"]
    assert min(rows[-1]["validation"]["branch_accuracy"]) > teacher - 0.15
    assert build.trained_run(tmp_path / "run").data["teacher"]
    assert "continuing from step" not in printed
    (tmp_path / "run" / "summary.json").unlink()  # so that the run is not finished
    assert "continuing from step" in succeeded("train", *DIGITS, *words, *teaching)  # slices are not taken again


SMALL = [
    "--dataset=digits",
    "--batch_size=64",
    "--validation=300",
    "--image_size=8",
    "--views=none",
    "--lr=0.1",
    "--splits=2",
    "--init=slices",
]


@pytest.mark.slow
def test_a_run_starts_from_slices_of_a_file_and_names_what_its_owner_froze(tmp_path, here):
    network = keras.models.load_model(small_file())
    network.get_layer("conv_0").trainable = False
    network.save(tmp_path / "own.keras")
    words = [*SMALL, f"--model={tmp_path / 'own.keras'}", f"--init_from={tmp_path / 'own.keras'}", "--epochs=1"]
    status, printed, error = here("train", *words, f"--workdir={tmp_path / 'run'}")
    assert status == 0, error
    first, second = printed.splitlines()[:2]
    assert first == f"weights from {tmp_path / 'own.keras'}"
    assert second == f"frozen or called with training=False in {tmp_path / 'own.keras'}, but their slices learn: conv_0"
    assert len(build.trained_run(tmp_path / "run").network().branches) == 2


@pytest.mark.slow
def test_a_head_for_other_classes_is_named_once(tmp_path):
    small(7).save(tmp_path / "own.keras")
    words = [*SMALL, f"--model={tmp_path / 'own.keras'}", f"--init_from={tmp_path / 'own.keras'}", "--epochs=1"]
    printed = succeeded("train", *words, f"--workdir={tmp_path / 'run'}")
    names = ", ".join(f"branch_{s}/logits/{name}" for s in (0, 1) for name in ("kernel", "bias"))
    assert printed.count("fresh") == 1 and f"weights from {tmp_path / 'own.keras'}, fresh: {names}\n" in printed
