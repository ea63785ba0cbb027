"""Runs whose branches start from slices of a trained network."""

import dataclasses

import numpy as np
import pytest

from dico_tf.config import from_values
from dico_tf.data import source
from dico_tf.data.pipeline import evaluation_batches
from dico_tf.errors import UserError
from dico_tf.training import build, run
from dico_tf.training.averaging import recalibrate
from dico_tf.training.sliced_start import start_from_slices
from tests.commands import succeeded

DIGITS = [
    "--dataset=digits", "--model=wrn_tiny", "--batch_size=64", "--validation=300", "--seed=4", "--image_size=16",
    "--views=none", "--lr=0.1", "--warmup_epochs=0", "--mixup=0",
]  # fmt: skip


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
    assert status == 2 and "is a run of wrn_tiny, not of resnet_tiny; expected the same --model" in error
    words[-4] = f"--init_from={tmp_path / 'run'}"
    status, _, error = here("train", *words[:-1], "--splits=2", f"--workdir={tmp_path / 'b'}")
    assert status == 2 and "has 2 branches; expected a run with --splits=1" in error


def test_slices_need_a_trained_network(tmp_path, here):
    with pytest.raises(UserError, match=r"^--init=slices needs a trained network: give --init_from=DIR"):
        from_values({"init": "slices"})
    status, _, error = here("train", *DIGITS, "--init_from=x.pth", "--init=slices", f"--workdir={tmp_path / 'run'}")
    assert status == 2 and "expected the folder of a run with --splits=1, got --init_from=x.pth" in error
