"""committee.py scenes, from two networks and a folder of masks to a cascade over cells."""

import json
import shutil

import keras
import numpy as np
import pytest
from PIL import Image

from dico_tf import flags
from dico_tf.cli import committee
from dico_tf.committee.committee_file import load
from dico_tf.committee.dense.grid import Grid
from dico_tf.errors import UserError
from dico_tf.evaluation.members.segmentation_members import open_segmentation_members
from dico_tf.evaluation.segmentation import confusion, miou
from tests.data import scenery
from tests.report.pages import checked, headings, table_of

SIZES = {"train": [(40, 32)] * 2, "val": [(40, 32)] * 6, "test": [(48, 32)] * 5}


def by_colour() -> keras.Model:
    """Logits by the distance to each class's colour; the surer the nearer."""
    image = keras.Input((None, None, 3), name="image")
    weights = np.concatenate([2 * scenery.COLOURS.T, -(scenery.COLOURS**2).sum(1)[None]]) / 400
    dense = keras.layers.Conv2D(3, 1, name="logits")
    network = keras.Model(image, dense(image))
    dense.set_weights([weights[:3][None, None], weights[3]])
    return network


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    root = tmp_path_factory.mktemp("scenes")
    scenery.folder(root / "data", SIZES)
    small = by_colour()
    large = keras.Sequential(
        [
            keras.Input((None, None, 3)),
            keras.layers.AveragePooling2D(3, 1, "same"),
            keras.layers.Conv2D(3, 3, padding="same", name="wide"),
            keras.layers.Conv2D(3, 1, name="logits"),
        ]
    )
    middle = np.zeros((3, 3, 3, 3))
    middle[1, 1] = np.eye(3)
    large.get_layer("wide").set_weights([middle, np.zeros(3)])
    large.get_layer("logits").set_weights(small.get_layer("logits").get_weights())
    for name, network in (("small", small), ("large", large)):
        network.save(root / f"{name}.keras")
    return root


def words(root, *more):
    return [
        "scenes",
        f"--members={root}/small.keras,{root}/large.keras",
        f"--dataset=folder:{root}/data",
        f"--void={scenery.VOID}",
        "--context=4",
        "--percentiles=10",
        f"--out={root}/out",
        *more,
    ]


def test_two_networks_become_a_cascade_over_cells(asked, capsys):
    committee.main(words(asked, "--cells=0,8", "--average=logits"))
    said, saved = capsys.readouterr().out, load(asked / "out/committee.json")
    assert "routed over the test images" in said and "ms an image" in said
    assert isinstance(saved.grid, Grid) and saved.calibration.images == 6 and saved.classes == 3
    rows = {row["name"]: row for row in saved.results["rows"]}
    assert set(rows) == {"the committee", "small", "large", "ensemble"}
    assert rows["the committee"]["calibration"]["miou"] >= rows["large"]["calibration"]["miou"]
    assert rows["the committee"]["calibration"]["cost"] <= rows["large"]["calibration"]["cost"]
    assert [curve["cell"] for curve in saved.results["curves"]] == [0, 8]
    root = checked((asked / "out/report.html").read_text())
    assert headings(root) == ["Results", "mIoU against cost", "Command"]
    assert [row[0] for row in table_of(root, "mIoU and average")[1:]] == list(rows)
    (member,) = open_segmentation_members([f"{asked}/large.keras"], 3)
    counts = np.zeros((3, 3), np.int64)
    for seed in range(8, 13):
        picture, mask = scenery.scene(seed, (48, 32))
        mask[mask == scenery.VOID] = 255
        counts += confusion(member.answer(picture[None])[0].argmax(-1), mask, 3)
    assert rows["large"]["test"]["miou"] == pytest.approx(miou(counts))
    committee.main(["show", f"--committee={asked}/out/committee.json", "--check"])
    shown = capsys.readouterr().out
    assert "every member is the one that the gates were fitted to" in shown and "pixels seen" in shown


def test_search_with_the_task_does_what_scenes_does(asked, tmp_path, capsys):
    for verb, out in (("scenes", "one"), ("search", "other")):
        task = ["--task=segmentation"] if verb == "search" else []
        committee.main([verb, *words(asked, "--cells=0,8", f"--out={tmp_path / out}")[1:], *task])
    one, other = (load(tmp_path / out / "committee.json") for out in ("one", "other"))
    assert (one.committee, one.grid, one.results["rows"]) == (other.committee, other.grid, other.results["rows"])
    assert "--cells" in flags.help_text(committee.script("search"))
    with pytest.raises(UserError, match="risk"):
        committee.main(["search", *words(asked)[1:], "--task=segmentation", "--risk=0.1"])
    with pytest.raises(UserError, match="cells"):
        committee.main(["search", "--logits=x.npz", "--cells=8"])


def test_a_damaged_grid_is_refused(asked, tmp_path):
    committee.main(words(asked, "--cells=8", "--nofigures"))
    content = json.loads((asked / "out/committee.json").read_text())
    for wrong in ({**content["grid"], "cell": "8"}, {"cell": 8}, 7):
        (tmp_path / "committee.json").write_text(json.dumps({**content, "grid": wrong}))
        with pytest.raises(UserError, match="grid"):
            load(tmp_path / "committee.json")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--calibration=test"], "the very images that test them"),
        (["--calibration=dev"], "has no dev images, it has"),
        (["--cells=-8"], "sides in pixels"),
        (["--cells=big"], "got big"),
        (["--budget=1"], "keeps to --budget=1: the cheapest member, small, takes"),
        (["--reference=tiny"], "must be ensemble, largest or a member"),
        (["--miou=80"], "--miou must be a share from 0 to 1, got 80"),
        (["--classes=4"], "has 3 classes and the data has 4"),
    ],
)
def test_what_cannot_be_is_said(asked, more, message):
    with pytest.raises(UserError, match=message):
        committee.main(words(asked, *more))


def test_test_images_without_a_label_are_refused_before_anything_is_fitted(asked, tmp_path):
    """As data sets come whose test labels are kept back."""
    shutil.copytree(asked / "data", tmp_path / "data")
    for path in (tmp_path / "data/test/masks").iterdir():
        Image.fromarray(np.full(Image.open(path).size[::-1], scenery.VOID, np.uint8)).save(path)
    with pytest.raises(UserError, match="no pixel of the test images has a class, all are void"):
        committee.main([*words(asked, f"--out={tmp_path / 'out'}"), f"--dataset=folder:{tmp_path / 'data'}"])
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def of_one_size(asked):
    fixed = keras.Sequential([keras.Input((48, 32, 3)), *keras.models.load_model(asked / "large.keras").layers])
    fixed.save(asked / "fixed.keras")
    return f"--members={asked}/small.keras,{asked}/fixed.keras"


def test_cells_whose_windows_cost_as_much_as_the_picture_are_left_out(asked, of_one_size, tmp_path, capsys):
    committee.main([*words(asked, "--cells=0,8", f"--out={tmp_path}"), of_one_size])
    said, saved = capsys.readouterr().out, load(tmp_path / "committee.json")
    assert "cells of 8 pixels are left out: their windows cost fixed more than their share" in said
    assert [curve["cell"] for curve in saved.results["curves"]] == [0]
    with pytest.raises(UserError, match=r"--cells=8: no size is left, .*; give --cells=0"):
        committee.main([*words(asked, "--cells=8", f"--out={tmp_path}"), of_one_size])


def test_a_member_alone_is_no_cascade(asked):
    with pytest.raises(UserError, match="expected at least two members, got small: give more --members"):
        committee.main([*words(asked), f"--members={asked}/small.keras"])
