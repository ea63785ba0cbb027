"""Runs that train on a part of their images, or with wrong labels."""

import json

import numpy as np
import pytest

from dico_tf.data.splits import nested_order
from dico_tf.evaluation.evaluate import load_splits
from dico_tf.training.build import trained_run
from tests.commands import command, succeeded
from tests.small_network import small_file

WORDS = [
    "--dataset=digits", "--image_size=8", f"--model={small_file()}", "--splits=2", "--batch_size=100", "--epochs=1",
    "--validation=100", "--lr=0.05", "--seed=4",
]  # fmt: skip
FEW = ["--train_images=300", "--label_noise=0.4", "--class_weights=balanced"]


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """Return the folder of a run on 300 images, 0.4 of all with wrong labels, and its output."""
    folder = tmp_path_factory.mktemp("few") / "run"
    return folder, succeeded("train", *WORDS, *FEW, f"--workdir={folder}")


def test_a_part_of_the_images_is_trained_on_and_no_other_split_changes(few):
    folder, output = few
    assert "(300 train, 359 test, 100 validation)" in output
    run = trained_run(folder)
    parts = load_splits(run)
    full = load_splits(_with(run, train_images=0, label_noise=0.0))
    assert full["train"].size == 1338
    for name in ("validation", "test"):
        assert parts[name].ids.tolist() == full[name].ids.tolist()
        assert parts[name].labels.tolist() == full[name].labels.tolist()
    expected = full["train"].ids[np.sort(nested_order(full["train"], 4)[:300])]
    assert parts["train"].ids.tolist() == expected.tolist()


def test_the_run_counts_the_labels_that_it_trains_on(few):
    run = trained_run(few[0])
    labels = load_splits(run)["train"].labels
    truth = load_splits(_with(run, label_noise=0.0))["train"].labels
    assert 0.25 < (labels != truth).mean() < 0.55
    assert run.data["class_counts"] == np.bincount(labels, minlength=10).tolist() != np.bincount(truth).tolist()
    assert run.data["trained_on"] == {"images": 300, "label_noise": 0.4}


def test_training_images_are_evaluated_with_the_labels_of_the_training(few):
    folder, _ = few
    assert "train: 300 images" in succeeded("evaluate", f"--workdir={folder}", "--split=train")
    counts = np.sum(json.loads((folder / "evaluation_train.json").read_text())["confusion"], axis=1)
    assert counts.tolist() == trained_run(folder).data["class_counts"]


@pytest.mark.parametrize("other", ["--train_images=301", "--train_images=0", "--label_noise=0.3"])
def test_a_run_continues_with_the_same_images_and_labels_only(few, other):
    folder, _ = few
    status, _, err = command("train", *WORDS, *FEW, other, f"--workdir={folder}")
    assert status == 2 and f"contains a run with other settings ({other.partition('=')[0]} was" in err


def test_more_images_than_there_are_end_the_command(tmp_path):
    status, _, err = command("train", *WORDS, "--train_images=1339", f"--workdir={tmp_path}")
    assert status == 2 and "--train_images=1339 is more than the 1338 training images: give at most that many" in err
    status, _, err = command("train", *WORDS, "--train_images=99", f"--workdir={tmp_path}")
    assert status == 2 and "--batch_size=100 is more than the 99 training images: give a smaller batch" in err


def _with(run, **changes):
    """Return the run with other settings of its data."""
    import dataclasses

    data = dataclasses.replace(run.config.data, **changes)
    return dataclasses.replace(run, config=dataclasses.replace(run.config, data=data))
