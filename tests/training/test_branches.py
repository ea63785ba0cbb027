"""Runs with --branches: from trained networks of several kinds to a run that does not need their files."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from dico_tf.config import from_values, to_values
from dico_tf.errors import UserError
from dico_tf.evaluation.averaging import softmax
from dico_tf.evaluation.members.open_members import open_members
from dico_tf.files.arrays import read_part
from dico_tf.training import build
from tests.commands import command, succeeded
from tests.edge import workers
from tests.small_network import small

ROOT = Path(__file__).parents[2]
WORDS = ["--dataset=digits", "--batch_size=64", "--validation=100", "--lr=0.2", "--views=crop", "--seed=4"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Return a folder of two networks: open.keras for images of any size, fixed.keras for 12 pixels and 7 classes."""
    folder = tmp_path_factory.mktemp("branches")
    small().save(folder / "open.keras")
    inner = small(classes=7, strides=(2,))
    image = keras.Input((12, 12, 3))
    keras.Model(image, keras.layers.Softmax()(inner(image))).save(folder / "fixed.keras")
    return folder


def names(folder: Path) -> str:
    return f"--branches={folder}/open.keras@16,fixed={folder}/fixed.keras"


@pytest.fixture(scope="module")
def run(folder) -> tuple[Path, str]:
    """Train for two epochs. Return the run's folder and what was printed."""
    workdir = folder / "run"
    out = succeeded(
        "train", *WORDS, names(folder), "--epochs=2", f"--workdir={workdir}", f"--whole={folder}/open.keras@16"
    )
    return workdir, out


def read(path: Path) -> dict:
    return json.loads(path.read_text())


def photo(folder: Path) -> tuple[Path, np.ndarray]:
    """Write an image as PNG. Return its path, and the image uint8 [16, 16, 3]."""
    image = np.random.default_rng(1).integers(0, 256, (16, 16, 3), np.uint8)
    Image.fromarray(image).save(folder / "photo.png")
    return folder / "photo.png", image


def best(workdir: Path) -> dict[str, np.ndarray]:
    return build.trained_run(workdir).arrays


@pytest.mark.slow
def test_it_says_which_networks_it_trains_and_what_each_costs(run, folder):
    workdir, out = run
    assert f"branch_1: {folder}/fixed.keras at 12 pixels, with its weights and a new head\n" in out
    assert f"{folder}/open.keras@16+fixed={folder}/fixed.keras in 2 branches on digits" in out
    assert "whole budget" in out and "branch_0 (open@16)" in out and "branch_1 (fixed)" in out
    summary = read(workdir / "summary.json")
    one, other = summary["branches"]
    assert (one["image_size"], other["image_size"]) == (16, 12) and one["macs"] > 3 * other["macs"]
    assert summary["macs"] == {"whole": one["macs"], "branches": one["macs"] + other["macs"]}
    assert read(workdir / "config.json")["data"]["image_size"] == 16


def test_listed_branches_count_as_splits_and_replace_what_divides_a_network():
    settings = from_values({"branches": ("a.keras", "keras:MobileNet")})
    assert settings.network.splits == 2 and settings.title == "a.keras+keras:MobileNet"
    assert from_values(to_values(settings)) == settings
    values = {
        "branches": ("a.keras", "b.keras"),
        "splits": 3,
        "model": "resnet_110",
        "division": "macs",
        "drop_path": 0.1,
        "init_from": "old",
        "task": "segmentation",
        "precision": "mixed_float16",
    }
    with pytest.raises(UserError) as faults:
        from_values(values)
    lines = str(faults.value).split("\n")
    starts = ["init_from", "model", "division", "drop_path", "splits", "branches contradicts --task", "precision"]
    assert [line.startswith(f"--{start}") for line, start in zip(lines, starts, strict=True)] == [True] * 7
    with pytest.raises(UserError, match=r"^--whole=keras:MobileNet is compared with --branches"):
        from_values({"whole": "keras:MobileNet"})


@pytest.mark.slow
def test_training_starts_from_the_networks_weights(folder, tmp_path):
    words = ["--lr=0", "--min_lr=0", "--weight_decay=0", "--epochs=1"]
    succeeded("train", *WORDS[:3], names(folder), *words, f"--workdir={tmp_path}/run")
    arrays = best(tmp_path / "run")
    for s, file in enumerate(("open.keras", "fixed.keras")):
        network = keras.saving.load_model(folder / file)
        network = network if s == 0 else next(part for part in network.layers if isinstance(part, keras.Model))
        kernel = network.get_layer("conv_0").kernel.numpy()
        assert np.array_equal(arrays[f"branch_{s}/conv_0/kernel"], kernel)
        assert arrays[f"branch_{s}/logits/kernel"].shape[-1] == 10


@pytest.mark.slow
def test_a_continued_run_needs_no_files_and_ends_with_the_same_bits(run, folder, tmp_path):
    other = tmp_path / "networks"
    shutil.copytree(folder, other, ignore=shutil.ignore_patterns("run"))
    words = [*WORDS, names(other), "--epochs=2", f"--workdir={tmp_path}/run"]
    succeeded("train", *words, "--max_steps=3")
    shutil.rmtree(other)
    assert "continuing from step 3" in succeeded("train", *words)
    one, two = best(run[0]), best(tmp_path / "run")
    assert one.keys() == two.keys() and all(np.array_equal(one[name], two[name]) for name in one)


@pytest.mark.slow
def test_a_run_that_ended_before_its_first_step_takes_the_weights_later(folder, tmp_path):
    words = [*WORDS, names(folder), "--epochs=2", f"--workdir={tmp_path}/run"]
    succeeded("train", *words, "--max_steps=1")
    for checkpoint in tmp_path.glob("run/checkpoints/*"):
        shutil.rmtree(checkpoint) if checkpoint.is_dir() else checkpoint.unlink()
    assert "with its weights and a new head" in succeeded("train", *words, "--max_steps=1")


@pytest.mark.slow
def test_branches_are_members_and_can_be_branches_again(run, tmp_path):
    workdir, _ = run
    first, second = open_members([f"{workdir}"])
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    expected = build.trained_run(workdir).network().predict(images, verbose=0)
    assert np.abs(expected).max() > 0.1, "too little was learned to compare answers"
    for s, member in enumerate((first, second)):
        np.testing.assert_allclose(member.run(images), expected[:, s], atol=1e-5)
    (larger,) = open_members([f"{workdir}:branch_1@20"])
    assert larger.run(np.zeros((1, 20, 20, 3), np.uint8)).shape == (1, 10) and larger.cost.macs == second.cost.macs
    again = tmp_path / "again"
    words = ["--dataset=digits", "--batch_size=256", "--epochs=1", "--max_steps=1", f"--workdir={again}"]
    succeeded("train", *words, f"--branches={workdir}:branch_1,{workdir}:branch_1")
    branches = read(again / "config.json")["network"]["branches"]
    assert [branch["name"] for branch in branches] == ["run.branch_1", "run.branch_1_2"]


def test_divide_compares_their_cost_with_another_network(run, folder):
    words = ["--dataset=digits", names(folder), f"--whole={folder}/open.keras@16"]
    report = json.loads(succeeded("divide", *words, "--json").splitlines()[-1])
    assert report["branches"] == read(run[0] / "summary.json")["branches"] and report["image_size"] == 16
    text = succeeded("divide", *words)
    assert text.startswith("2 branches, digits: 16x16 pixels, 10 classes") and "\n  open at 16 " in text
    assert "warning" not in text and text.endswith("all divide one network into equal branches\n")
    assert command("divide", *words, "--all").err.startswith(
        "divide.py: --all lists presets and contradicts --branches"
    )


def test_what_cannot_be_a_branch_is_refused_before_the_data_are_read(run, folder, tmp_path):
    workdir, _ = run
    faults = {
        "nothing.keras": "--branches: nothing.keras: there is no nothing.keras",
        f"{folder}/open.keras": "takes images of any size: add a size, as in",
        f"{workdir}": "names 2: give one of",
        f"{workdir}:ensemble": "is not one Keras network that can be trained: give keras:",
        "keras:MobileNotV2": "keras.applications has no 'MobileNotV2'",
        "keras:MobileNetV2@8?weights=none": "MobileNetV2 cannot be built for 8 pixels",
        "preset:wrn_tiny": "presets come without weights",
        "preset:deeplabv3_tiny?weights=none": "expected a preset for classification",
    }
    for spec, message in faults.items():
        status, _, err = command("train", "--dataset=digits", f"--branches={spec}", f"--workdir={tmp_path}/run")
        assert status == 2 and message in err, (spec, err)
        assert err.count("\n") <= 2


def test_predict_prints_the_ensembles_probabilities(run, tmp_path):
    path, image = photo(tmp_path)
    line = json.loads(succeeded("predict", path, f"--workdir={run[0]}", "--top=10", "--json"))
    expected = softmax(build.trained_run(run[0]).network().predict(image[None], verbose=0).mean(1))[0]
    answers = {entry["class"]: entry["probability"] for entry in line["classes"]}
    np.testing.assert_allclose([answers[str(digit)] for digit in range(10)], expected, atol=1e-5)


@pytest.mark.slow
def test_a_committee_of_branches_asks_each_at_its_cost(run, tmp_path):
    """From the run's saved predictions, and from the branches themselves, which the search then asks."""
    workdir, _ = run
    for split in ("validation", "test"):
        succeeded("evaluate", f"--workdir={workdir}", f"--split={split}")
    branches = {f"branch_{s}": branch["macs"] for s, branch in enumerate(read(workdir / "summary.json")["branches"])}
    both = f"--members={workdir}:branch_0,{workdir}:branch_1"
    for number, words in enumerate(([f"--workdir={workdir}"], [both, "--dataset=digits"])):
        out = tmp_path / str(number)
        succeeded("committee", "search", *words, f"--out={out}", f"--cache={tmp_path}/cache", "--nofigures")
        content = read(out / "committee.json")
        assert branches.keys() <= {row["name"].split(".")[-1] for row in content["results"]["rows"]}
        costs = {member["name"].split(".")[-1]: member["cost"]["macs"] for member in content["members"]}
        assert costs and costs == {name: branches[name] for name in costs}


@pytest.mark.slow
def test_branches_that_learn_alone_are_averaged_and_continue_bit_by_bit(folder, tmp_path):
    words = [*WORDS, names(folder), "--epochs=1", "--training=independent", "--ema=0.9", "--evaluate_ema"]
    succeeded("train", *words, f"--workdir={tmp_path}/one")
    succeeded("train", *words, f"--workdir={tmp_path}/two", "--max_steps=7")
    assert "continuing from step 7" in succeeded("train", *words, f"--workdir={tmp_path}/two")
    one, two = best(tmp_path / "one"), best(tmp_path / "two")
    assert one.keys() == two.keys() and all(np.array_equal(one[name], two[name]) for name in one)
    (row,) = [json.loads(line) for line in (tmp_path / "one/metrics.jsonl").read_text().splitlines()]
    assert row["ensemble_accuracy"] is None and len(row["validation_ema"]["branch_accuracy"]) == 2
    raw = read_part(next((tmp_path / "one/checkpoints").glob("step_*")), "weights")
    assert not np.array_equal(raw["branch_1/conv_0/kernel"], one["branch_1/conv_0/kernel"]), "best/ has averages"


TRAIN_ON_TWO = """
import sys
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from dico_tf.cli.train import main
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_two_replicas_start_from_the_networks_weights_and_learn_what_one_device_learns(folder, tmp_path):
    words = [*WORDS, names(folder), "--epochs=1", "--max_steps=3", "--save_every=3", "--sync_batch_norm"]
    succeeded("train", *words, f"--workdir={tmp_path}/one")
    command = [sys.executable, "-c", TRAIN_ON_TWO, *words, f"--workdir={tmp_path}/two", "--strategy=mirrored"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0 and "2 replicas" in done.stdout, done.stderr[-3000:]
    one, two = (read_part(tmp_path / name / "checkpoints/step_3", "weights") for name in ("one", "two"))
    for name in one:
        np.testing.assert_allclose(two[name], one[name], atol=5e-5, err_msg=name)


@pytest.fixture(scope="module")
def export(run, folder) -> Path:
    """Export the run in every format, rounded to int8 too, and in ONNX if it is installed."""
    formats = ["saved_model", "tflite", *(["onnx"] if importlib.util.find_spec("tf2onnx") else [])]
    words = [f"--formats={','.join(formats)}", "--quantise=none,int8", "--calibration_images=100"]
    succeeded("export", f"--workdir={run[0]}", f"--out={folder}/export", *words)
    return folder / "export"


@pytest.mark.slow
def test_exported_branches_answer_as_in_training_in_every_format(run, export):
    workdir, _ = run
    costs = read(workdir / "summary.json")["branches"]
    members = {member["name"]: member for member in read(export / "manifest.json")["members"]}
    for s, cost in enumerate(costs):
        member = members[f"branch_{s}"]
        assert (member["macs"], member["params"], member["input_size"]) == (cost["macs"], cost["params"], 16)
        kinds = member["metrics"]
        assert kinds["float32"]["largest_difference"] < 1e-3
        assert kinds["int8"]["top1"] > kinds["keras"]["top1"] - 0.05
        assert "onnx" not in kinds or kinds["onnx"]["largest_difference"] < 1e-3
    assert f"{costs[0]['params']:,} and {costs[1]['params']:,} parameters" in (export / "README.md").read_text()
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    expected = build.trained_run(workdir).network().predict(images, verbose=0)
    assert np.abs(expected).max() > 0.1, "too little was learned to compare answers"
    for s in range(2):
        for form in ("float32", "saved_model"):
            (member,) = open_members([f"{export}:branch_{s}?format={form}"])
            np.testing.assert_allclose(member.run(images), expected[:, s], atol=1e-3)


@pytest.mark.slow
def test_served_branches_of_two_image_sizes_answer_a_photo(run, export, tmp_path):
    path, image = photo(tmp_path)
    words = [sys.executable, "serve.py", "local", f"--manifest={export}/manifest.json", "--deadline_ms=20000"]
    with workers.running(export, words=words) as gateway:
        status, reply = gateway.post(path.read_bytes(), workers.PNG, "/v2/models/committee/infer")
    assert status == 200, reply
    outputs = {output["name"]: output["data"] for output in reply["outputs"]}
    expected = softmax(build.trained_run(run[0]).network().predict(image[None], verbose=0).mean(1))[0]
    np.testing.assert_allclose(outputs["probabilities"], expected, atol=1e-3)
