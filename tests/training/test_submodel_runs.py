"""Runs with submodels: from flags to a folder, continued from a checkpoint, and at another image size."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from dico_tf.config import from_values
from dico_tf.errors import UserError
from dico_tf.evaluation.members import runs
from dico_tf.evaluation.members.open_members import open_members
from dico_tf.files.arrays import read_part, write_folder
from dico_tf.layers.resizing import bicubic
from dico_tf.layers.stochastic_depth import droppings
from dico_tf.training import build, variables
from dico_tf.training.run import train

RECIPE = {
    "method": "cosub",
    "model": "vit_tiny",
    "dataset": "digits",
    "image_size": 16,
    "views": ("none",),
    "drop_path": 0.3,
    "batch_size": 256,
    "epochs": 2,
    "max_steps": 7,
    "validation": 100,
    "lr": 0.05,
    "seed": 4,
    "save_every": 3,
}


def run(folder: Path, **more) -> list[str]:
    lines = []
    train(from_values({**RECIPE, "workdir": str(folder), **more}), "# flags\n", lines.append)
    return lines


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    run(folder)
    return folder


def arrays(folder: Path) -> dict[str, np.ndarray]:
    (last,) = sorted((folder / "checkpoints").glob("step_7"))
    return {**read_part(last, "weights"), **read_part(last, "progress")}


@pytest.mark.slow
def test_a_run_that_was_interrupted_draws_and_learns_as_one_that_was_not(whole, tmp_path):
    run(tmp_path / "run", max_steps=3)
    assert run(tmp_path / "run")[0].startswith("continuing from step 3")
    result, want = arrays(tmp_path / "run"), arrays(whole)
    assert result.keys() == want.keys()
    assert [name for name in want if not np.array_equal(result[name], want[name])] == []
    assert any(name.endswith("taken/seed_generator_state") for name in want)


@pytest.mark.slow
def test_a_run_remembers_its_rate_and_answers_with_the_whole_network(whole):
    trained = build.trained_run(whole)
    model = trained.network()
    assert model.settings.method == "cosub"
    assert [layer.rate for layer in droppings(model.branches[0])] == [0.3] * 8
    pictures = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3)).astype(np.float32)
    logits = np.asarray(model(pictures))
    assert logits.shape == (3, 1, 10)
    assert np.array_equal(logits, np.asarray(model(pictures)))
    (first,) = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    assert first["submodels_apart"] > 0 and "submodels_apart" not in first["validation"]


@pytest.mark.slow
def test_another_size_takes_the_same_weights_with_its_places_resized(whole):
    trained = build.trained_run(whole)
    config = from_values({**RECIPE, "drop_path": 0.1, "image_size": 32})
    model = build.network(config, {**trained.data, "image_size": 32})
    assert build.start_from(model, whole).fresh == []
    result, table = variables.values(variables.weights(model)), "branch_0/positions/table"
    assert result[table].shape == (8, 8, 64)
    assert np.array_equal(result[table], bicubic(trained.arrays[table], (8, 8)))
    others = [name for name in result if name != table and not name.endswith("state")]
    assert [name for name in others if not np.array_equal(result[name], trained.arrays[name])] == []
    (branch,) = runs.branches(trained, 32)
    assert np.array_equal(branch.get_layer("positions").table, result[table])
    assert branch.input_shape == (None, 32, 32, 3)


@pytest.mark.slow
def test_a_run_without_drops_gives_its_weights_to_one_with(whole, tmp_path):
    still = {**RECIPE, "method": "dico", "drop_path": 0.0}
    trained = build.trained_run(whole)
    plain = build.network(from_values(still), trained.data)
    assert build.start_from(plain, whole).fresh == []
    assert droppings(plain.branches[0]) == []
    folder = tmp_path / "plain"  # as a run without drops would be: it has drawn nothing
    shutil.copytree(whole, folder)
    saved = {name: array for name, array in trained.arrays.items() if not name.endswith("state")}
    write_folder(folder / "best", {"weights": saved}, {"epoch": 0, "score": 0.1})
    dropping = build.network(from_values(RECIPE), trained.data)
    assert build.start_from(dropping, folder).fresh == []


def test_batches_too_small_to_drop_rows_of_are_refused_with_what_would_do(tmp_path):
    few = "--batch_size=2 means 4 rows at once, .* is computed for 2 of them: that drops 50% instead"
    with pytest.raises(UserError, match=few) as caught:
        run(tmp_path / "a", batch_size=2)
    assert "of 30%; give --batch_size=10 or more, or --drop_form=masked" in str(caught.value)
    with pytest.raises(UserError, match=r"--batch_size=8 means 4 rows at once.*--batch_size=40 or more"):
        run(tmp_path / "b", batch_size=8, accumulation=4)
    config = from_values({**RECIPE, "batch_size": 2, "drop_form": "masked"})
    model = build.network(config, _data())
    build.check_rows(model, config, 1)


def _data() -> dict:
    return {"class_names": list("0123456789"), "image_size": 16, "mean": (0.5,) * 3, "std": (0.25,) * 3}


def test_pictures_that_patches_do_not_divide_end_in_one_message(tmp_path):
    with pytest.raises(UserError, match=r"image_size=18 does not divide into patches of 4x4 pixels: give .*16 or 20"):
        run(tmp_path / "run", image_size=18)


@pytest.mark.slow
def test_fewer_blocks_of_a_run_are_a_member_that_costs_less(whole):
    result = open_members([f"{whole}?blocks=2", str(whole)])
    assert [member.name for member in result] == ["whole.branch_0.2_blocks", "whole.branch_0"]
    short, long = (member.load() for member in result)
    assert short.cost.macs < 0.6 * long.cost.macs
    pictures = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3)).astype(np.uint8)
    assert short.answer(pictures).shape == long.answer(pictures).shape == (3, 10)
    assert result[0].weights != result[1].weights
    with pytest.raises(
        UserError, match=r"blocks=9: branch_0 cannot answer with 9 blocks: it has 4 that can be dropped"
    ):
        open_members([f"{whole}?blocks=9"])[0].load()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "splits", "copies", "target"),
    [("dico", 2, 1, "softmax"), ("cosub", 1, 2, "binary"), ("dico+cosub", 2, 2, "binary")],
)
def test_a_method_decides_on_copies_and_on_what_answers_are_compared_with(method, splits, copies, target):
    config = from_values({**RECIPE, "method": method, "splits": splits, "division": "params"})
    model = build.network(config, _data(), precision="mixed_bfloat16")
    assert (model.method.copies, model.target, len(model.branches)) == (copies, target, splits)
    (rate,) = {layer.rate for layer in droppings(model.branches[0])}
    assert rate == pytest.approx(0.3 / splits**0.5)
