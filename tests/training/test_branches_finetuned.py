"""Fine-tuning of --branches: layers that their owners froze, frozen backbones, and kept batch statistics."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest

from dico_tf.config import from_values
from dico_tf.evaluation.members.open_branches import open_branches
from dico_tf.files.arrays import read_part
from tests.commands import succeeded
from tests.small_network import small

WORDS = ["--dataset=digits", "--batch_size=256", "--validation=100", "--lr=0.2", "--views=none", "--seed=4"]
BELOW = {f"{kind}_{n}" for kind in ("conv", "norm") for n in range(3)}  # layers of `small` below its head
FROZEN = {"conv_0", "norm_0"}  # layers that the owner of the first network froze
STEPS = 5  # of an epoch


def backbone() -> keras.Model:
    """Return the small network below its head."""
    network = small()
    return keras.Model(network.input, network.get_layer("pool").output, name="backbone")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Return a folder of two networks: one has frozen layers, the other is called with training=False."""
    folder = tmp_path_factory.mktemp("frozen")
    image = keras.Input((12, 12, 3))
    inner = backbone()
    for name in FROZEN:
        inner.get_layer(name).trainable = False
    keras.Model(image, keras.layers.Dense(4)(inner(image))).save(folder / "frozen.keras")
    image = keras.Input((16, 16, 3))
    keras.Model(image, keras.layers.Dense(4)(backbone()(image, training=False))).save(folder / "inferring.keras")
    return folder


def arrays(workdir: Path) -> dict[str, np.ndarray]:
    """Return the weights of the newest checkpoint."""
    newest = max(workdir.glob("checkpoints/step_*"), key=lambda path: int(path.name.removeprefix("step_")))
    return read_part(newest, "weights")


def start(specs: list[str]) -> dict[str, np.ndarray]:
    """Return the weights below the heads with which the branches start, by the names of a run's weights."""
    opened = open_branches(from_values({"branches": tuple(specs)}))
    weights = {}
    for s, (branch, own) in enumerate(zip(opened.network.listed, opened.arrays, strict=True)):
        layers = {layer.name: layer for layer in branch.build(branch.image_size, 3).layers}
        for name, values in own.items():
            names = [variable.name for variable in layers[name].weights]
            weights |= {f"branch_{s}/{name}/{n}": value for n, value in zip(names, values, strict=True)}
    return weights


def moved(before: dict[str, np.ndarray], workdir: Path) -> set[str]:
    """Return the variables below the heads that changed since the start, such as branch_0/conv_1/kernel."""
    now = arrays(workdir)
    assert before.keys() <= now.keys(), "weights have other names than in the run"
    return {name for name, value in before.items() if not np.array_equal(value, now[name])}


def layers_of(names: set[str], branch: int) -> set[str]:
    return {name.split("/")[1] for name in names if name.startswith(f"branch_{branch}/")}


@pytest.fixture(scope="module")
def specs(folder) -> list[str]:
    return [f"{folder}/frozen.keras", f"{folder}/inferring.keras"]


@pytest.fixture(scope="module")
def run(folder, specs) -> tuple[Path, str]:
    """Train the two networks for an epoch. Return the run's folder and what was printed."""
    words = [*WORDS, f"--branches={','.join(specs)}", "--epochs=1", f"--workdir={folder}/run"]
    return folder / "run", succeeded("train", *words)


@pytest.mark.slow
def test_layers_that_their_owner_froze_stay_frozen_and_are_named(run, specs):
    workdir, out = run
    line = f"frozen in {specs[0]}, and so in all epochs: branch_0/conv_0, branch_0/norm_0\n"
    assert out.count("frozen in") == 1 and line in out
    assert layers_of(moved(start(specs), workdir), 0) == BELOW - FROZEN
    data = json.loads((workdir / "config.json").read_text())["data"]
    assert data["frozen_layers"] == ["branch_0/conv_0", "branch_0/norm_0"]


def test_a_network_called_in_inference_keeps_its_batch_statistics_and_learns(run, specs):
    changed = {name for name in moved(start(specs), run[0]) if name.startswith("branch_1/")}
    assert layers_of(changed, 1) == BELOW and not any("/moving_" in name for name in changed)


@pytest.mark.slow
@pytest.mark.parametrize("size", ["", "@20"])
def test_branches_of_a_run_stay_frozen_where_their_owner_froze_them(run, size):
    again = open_branches(from_values({"branches": tuple(f"{run[0]}:branch_{s}{size}" for s in range(2))}))
    assert again.owner_frozen["frozen_layers"] == ["branch_0/conv_0", "branch_0/norm_0"]
    assert {f"branch_1/norm_{n}" for n in range(3)} <= set(again.owner_frozen["inference_layers"])


@pytest.mark.slow
def test_frozen_layers_stay_frozen_when_a_run_continues(specs, tmp_path):
    words = [*WORDS, f"--branches={','.join(specs)}", "--epochs=1", f"--workdir={tmp_path}/run"]
    succeeded("train", *words, "--max_steps=2")
    before = arrays(tmp_path / "run")
    assert "continuing from step 2" in succeeded("train", *words)
    assert layers_of(moved(before, tmp_path / "run"), 0) >= BELOW - FROZEN
    assert not layers_of(moved(before, tmp_path / "run"), 0) & FROZEN


@pytest.mark.slow
def test_heads_learn_first_and_then_all_layers_by_a_share_of_the_rate(specs, tmp_path):
    words = [*WORDS, f"--branches={','.join(specs)}", "--freeze=1", "--epochs=2", "--backbone_lr=0.5"]
    words += ["--batch_statistics=keep", f"--workdir={tmp_path}/run"]
    before = start(specs)
    succeeded("train", *words, f"--max_steps={STEPS}")
    assert not moved(before, tmp_path / "run")
    succeeded("train", *words, f"--max_steps={STEPS + 1}")
    changed = moved(before, tmp_path / "run")
    assert [layers_of(changed, s) for s in (0, 1)] == [BELOW - FROZEN, BELOW]
    assert not any("/moving_" in name for name in changed)


@pytest.mark.slow
def test_a_backbone_that_a_run_froze_is_not_frozen_as_a_branch_of_the_next_run(specs, tmp_path):
    words = [*WORDS, f"--branches={specs[1]},{specs[1]}", "--freeze=backbone", "--epochs=1"]
    out = succeeded("train", *words, f"--workdir={tmp_path}/run")
    assert not moved(start([specs[1]]), tmp_path / "run") and "frozen in" not in out
    opened = open_branches(from_values({"branches": (f"{tmp_path}/run:branch_0", f"{tmp_path}/run:branch_1")}))
    assert opened.owner_frozen["frozen_layers"] == []
