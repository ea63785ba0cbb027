"""Segmentation runs on a transformer: started from a classifier's weights, with submodels, on images of any size."""

import json

import numpy as np
import pytest
from PIL import Image

from dico_tf import config, flags
from dico_tf.cli import train
from dico_tf.config import from_values
from dico_tf.errors import UserError
from dico_tf.evaluation.members import segmentation_members
from dico_tf.evaluation.segmentation import miou
from dico_tf.files import json_files
from dico_tf.files.arrays import write_folder
from dico_tf.layers.resizing import bicubic
from dico_tf.models.presets import PRESETS
from dico_tf.training import build, variables, workdir
from tests.data import scenery
from tests.training.test_segmentation_runs import called

pytestmark = pytest.mark.slow  # trains or starts several processes

DIGITS = {"model": "vit_tiny", "image_size": 16}
FACTS = {"class_names": list("0123456789"), "image_size": 16, "mean": (0.5,) * 3, "std": (0.25,) * 3}
SCENES = [
    "--task=segmentation",
    "--method=cosub",
    f"--void={scenery.VOID}",
    "--image_size=32",
    "--model=upernet_vit_tiny",
    "--views=crop+flip",
    "--batch_size=4",
    "--epochs=2",
    "--drop_path=0.25",
    "--lr=0.02",
    "--evaluation_batch_size=3",
]


def run_of(folder, config, facts):
    """Write the folder of a run with its initial weights."""
    folder.mkdir()
    weights = variables.values(variables.weights(build.network(config, facts)))
    json_files.write(folder / "config.json", workdir.describe(config, facts, config.network.model))
    write_folder(folder / "best", {"weights": weights}, {"epoch": 0, "select": "validation", "weights": "raw"})
    return folder


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    return run_of(tmp_path_factory.mktemp("runs") / "digits", from_values(DIGITS), FACTS)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    sizes = {"train": [(40, 32)] * 8, "val": [(40, 32)] * 2, "test": [(44, 36), (30, 30), (40, 20)]}
    return scenery.folder(tmp_path_factory.mktemp("scenes"), sizes)


@pytest.fixture(scope="module")
def made(scenes, tmp_path_factory):
    values, _ = flags.parse(train.SCRIPT, [f"--dataset=folder:{scenes}", *SCENES])
    facts = {**FACTS, "class_names": list("abc"), "image_size": 32}
    return run_of(tmp_path_factory.mktemp("runs") / "scenes", config.from_values(values), facts)


def _json(path):
    return json.loads(path.read_text(encoding="utf-8"))


def _asked(**more):
    settings = {"task": "segmentation", "model": "upernet_vit_tiny", "image_size": 32, **more}
    return build.network(from_values(settings), {**FACTS, "class_names": list("abc"), "image_size": 32})


@pytest.mark.slow
def test_submodels_of_pixels_are_scored_as_any_segmenter_and_say_how_far_apart_they_are(classifier, scenes, tmp_path):
    """The run is stopped in the middle of its second epoch and continued."""
    words = [f"--dataset=folder:{scenes}", *SCENES, f"--init_from={classifier}", f"--workdir={tmp_path / 'run'}"]
    assert called("train", *words, "--max_steps=3") == 0
    assert called("train", *words) == 0
    trained = tmp_path / "run"
    rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4]
    for row in rows:
        assert 0 <= row["ensemble_miou"] <= 1 and row["submodels_apart"] > 0
        assert "submodels_apart" not in row["validation"]
    result = _json(trained / "evaluation_test.json")
    assert result["frame"] == [48, 48] and result["ensemble"]["miou"] == miou(np.array(result["confusion"]))
    one = PRESETS["upernet_vit_tiny"].cost(32, 3).macs
    assert result["macs"] == {"whole": 4 * one, "branch": 4 * one}  # windows of 32 at 0 and 16, either way


def test_pictures_of_any_size_are_answered(made, scenes, tmp_path, capsys):
    Image.fromarray(scenery.scene(9, (90, 20))[0]).save(tmp_path / "wide.png")
    pictures = [str(scenes / "test/images/000.png"), str(tmp_path / "wide.png")]
    assert called("predict", f"--workdir={made}", f"--masks={tmp_path / 'm'}", "--json", *pictures) == 0
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert Image.open(first["mask"]).size == (44, 36) and Image.open(second["mask"]).size == (90, 20)


def test_a_run_is_a_member_that_answers_any_size_and_counts_its_windows(made, scenes):
    (member,) = segmentation_members.open_segmentation_members([str(made)], 3)
    picture = np.asarray(Image.open(scenes / "test/images/000.png"))[None]
    model = build.trained_run(made).network()
    assert member.answer(picture).shape == (1, 36, 44, 3)
    whole = picture[:, :32, :32]
    assert member.answer(whole) == pytest.approx(np.asarray(model.branches[0](whole)), abs=1e-5)
    one = PRESETS["upernet_vit_tiny"].cost(32, 3).macs
    assert [member.macs(sides) for sides in ((32, 32), (48, 32), (48, 80))] == [one, 2 * one, 8 * one]


def test_a_classifier_s_run_gives_its_backbone_with_places_resized(classifier):
    model = _asked()
    carried, saved = build.start_from(model, classifier), build.trained_run(classifier).arrays
    result, table = variables.values(variables.weights(model)), "branch_0/positions/table"
    assert np.array_equal(result[table], bicubic(saved[table], (8, 8))) and saved[table].shape == (4, 4, 64)
    shared = [name for name in saved if "/block" in name and not name.endswith("state")]
    assert len(shared) == 4 * 14 and all(np.array_equal(result[name], saved[name]) for name in shared)
    assert {name.split("/")[1].split("_")[0].rstrip("123456") for name in carried.fresh} == {
        "level",
        "pool",
        "fuse",
        "logits",
        "auxiliary",
    }
    assert carried.unused == [
        f"branch_0/{name}" for name in ("norm/gamma", "norm/beta", "logits/kernel", "logits/bias")
    ]


def test_what_a_run_s_weights_do_not_fit_is_refused_with_what_would(classifier, made):
    with pytest.raises(UserError, match=r"is vit_tiny in 1 branches, which does not fit: .* or a run of --model=swin"):
        build.start_from(_asked(model="upernet_swin_mini"), classifier)
    backwards = build.network(from_values(DIGITS), FACTS)
    with pytest.raises(UserError, match="is upernet_vit_tiny in 1 branches, which does not fit: 2 variables differ"):
        build.start_from(backwards, made)
