"""Folders of pictures and masks: what they may look like, how others are refused, and what is cut out of them."""

import shutil

import numpy as np
import pytest
from PIL import Image

from dico_tf import config
from dico_tf.data import segmentation, source
from dico_tf.data.pipeline import evaluation_batches, training_batches
from dico_tf.data.segmentation import VOID
from dico_tf.data.source import IMAGENET_MEAN
from dico_tf.data.splits import carve
from dico_tf.errors import UserError
from tests.data import scenery

MEAN = np.round(255 * np.array(IMAGENET_MEAN)).astype(np.uint8)
SIZES = {"train": [(40, 32), (32, 40), (20, 20)], "val": [(48, 32)], "test": [(40, 32)] * 2}


@pytest.fixture
def root(tmp_path):
    return scenery.folder(tmp_path / "scenes", SIZES)


def load(root, **more):
    values = {"task": "segmentation", "dataset": f"folder:{root}", "void": scenery.VOID, "image_size": 24, **more}
    return source.load(config.from_values(values).data, 0)


def test_a_folder_of_pictures_and_masks_is_a_source(root):
    result = load(root)
    assert {name: split.size for name, split in result.splits.items()} == {"train": 3, "val": 1, "test": 2}
    assert result.class_names == ("class_0", "class_1", "class_2")
    assert result.frame == (48, 48) and result.image_size == 24  # room for 48x32 and 32x40, in multiples of 16
    assert result.splits["train"].ids.tolist() == [f"train/images/{n:03d}.png" for n in range(3)]
    assert load(root, image_size=0).image_size == 48


def test_classes_have_the_names_of_classes_txt(root):
    (root / "classes.txt").write_text("sky\nroad\ncar\nbicyclist\n")
    assert load(root).class_names == ("sky", "road", "car", "bicyclist")
    assert load(root, classes=5).class_names == ("sky", "road", "car", "bicyclist", "class_4")
    (root / "classes.txt").write_text("sky\nroad\nsky\n")
    with pytest.raises(UserError, match="list each class once, but repeats sky"):
        load(root)


@pytest.mark.parametrize("mode", ["L", "P", "I;16"])
def test_masks_may_be_grey_or_have_a_palette(root, mode):
    picture, mask = scenery.scene(7)
    image = Image.fromarray(mask.astype(np.uint16) if mode == "I;16" else mask)
    if mode == "P":
        image.putpalette([255 - n for n in range(30)])
    assert image.mode == mode
    scenery.write(root / "train", "000", picture, image)
    framed, result = load(root).splits["train"].framed(np.array([0]))
    expected = np.where(mask == scenery.VOID, VOID, mask)
    assert np.array_equal(result[0, :32, :40], expected)
    assert np.array_equal(framed[0, :32, :40], picture)


def test_masks_of_black_and_white_have_two_classes(tmp_path):
    picture, mask = scenery.scene(1)
    scenery.write(tmp_path / "train", "a", picture, Image.fromarray(mask == 1))
    assert load(tmp_path, void=255).class_names == ("class_0", "class_1")


def test_frames_are_filled_up_with_the_mean_colour_and_void(root):
    images, result = load(root).splits["train"].framed(np.array([2, 0]))
    assert images.shape == (2, 48, 48, 3) and result.shape == (2, 48, 48)
    assert (images[0, 20:] == MEAN).all() and (images[0, :, 20:] == MEAN).all()
    assert (result[0, 20:] == VOID).all() and (result[0, :20, :20][4:] != VOID).all()


def test_a_crop_at_full_size_is_a_piece_of_the_scene(root):
    split = load(root).splits["train"]
    whole, mask = (x[0] for x in split.framed(np.array([0])))
    image, result = split.crops(np.array([0]), np.array([[40, 32, 9, 5]]))
    assert np.array_equal(image[0], whole[5:29, 9:33]) and np.array_equal(result[0], mask[5:29, 9:33])


@pytest.mark.parametrize("place", [(60, 48, 20, 10), (50, 40, 0, 16), (30, 24, 6, 0)])
def test_a_crop_is_that_of_the_resized_picture(root, place):
    split = load(root).splits["train"]
    scene = Image.open(root / "train/images/000.png")
    width, height, left, top = place
    resized = np.asarray(scene.resize((width, height), Image.Resampling.BILINEAR)).astype(int)
    image, result = split.crops(np.array([0]), np.array([place]))
    differences = np.abs(image[0] - resized[top : top + 24, left : left + 24])
    assert differences.max() <= 3 and differences.mean() < 0.5  # Pillow has boxes in float32
    nearest = np.asarray(Image.open(root / "train/masks/000.png").resize((width, height), Image.Resampling.NEAREST))[
        top : top + 24, left : left + 24
    ]
    # a middle that falls between two pixels may go either way
    assert (result[0] == np.where(nearest == scenery.VOID, VOID, nearest)).mean() > 0.95


def test_a_crop_larger_than_the_picture_has_a_border(root):
    image, result = (x[0] for x in load(root).splits["train"].crops(np.array([0]), np.array([[20, 16, -3, -8]])))
    inside = np.zeros((24, 24), bool)
    inside[8:24, 3:23] = True
    assert (image[~inside] == MEAN).all() and (result[~inside] == VOID).all()
    assert (result[inside] != VOID).mean() > 0.9


def test_carved_and_taken_scenes_keep_their_masks(root):
    split = load(root).splits["train"].subset(np.array([2, 0]))
    assert split.ids.tolist() == ["train/images/002.png", "train/images/000.png"]
    assert split.image_sizes(np.array([0])).tolist() == [[20, 20]]
    train, validation = carve(load(root).splits["train"], 1, 0)
    assert train.size == 3 and validation is None


def test_batches_bring_pictures_and_masks(root):
    split = load(root).splits["train"]
    whole = list(evaluation_batches(split, 2))
    assert [batch["image"].shape.as_list() for batch in whole] == [[2, 48, 48, 3], [1, 48, 48, 3]]
    assert whole[0]["label"].dtype == "uint8" and np.array_equal(whole[1]["index"], [2])
    place = np.array([[40, 32, 9, 5]] * 2, np.int32)
    (batch,) = training_batches(split, np.array([[[0, 2]]]), lambda index, sizes: place)
    assert batch["image"].shape == (2, 24, 24, 3) and batch["label"].shape == (2, 24, 24)
    assert np.array_equal(batch["label"], split.crops(np.array([0, 2]), place)[1])


def test_another_mask_is_other_data(root):
    before = load(root).fingerprint
    mask = np.array(Image.open(root / "train/masks/000.png"))
    mask[20, 20] = (mask[20, 20] + 1) % 3
    Image.fromarray(mask).save(root / "train/masks/000.png")
    assert load(root).fingerprint != before


def _lost_mask(root):
    (root / "train/masks/001.png").unlink()


def _lost_picture(root):
    (root / "val/images/000.png").unlink()
    Image.new("RGB", (4, 4)).save(root / "val/images/999.png")


def _other_size(root):
    Image.new("L", (8, 8)).save(root / "train/masks/001.png")


def _colours(root):
    Image.new("RGB", (40, 32)).save(root / "train/masks/000.png")


def _deep(root):
    Image.fromarray(np.full((32, 40), 300, np.uint16)).save(root / "train/masks/000.png")


def _broken(root):
    (root / "test/masks/001.png").write_bytes(b"no picture")


def _twin(root):
    Image.new("RGB", (40, 32)).save(root / "train/images/000.jpg")


def _no_masks(root):
    shutil.rmtree(root / "train/masks")


def _no_train(root):
    shutil.rmtree(root / "train")


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (
            _lost_mask,
            r"1 file of .*train without counterpart: add it.*\n.*001.png has no mask, such as .*train/masks/001.png",
        ),
        (_lost_picture, r"2 files of .*val without counterpart: .*(.|\n)*has no image in"),
        (_other_size, "the image has 32x40 pixels, its mask 8x8: they must be equal"),
        (_colours, "its pixels are RGB, not class numbers: save masks in grey or with a palette"),
        (_deep, r"classes are 0 to 254\), got 300 to 300"),
        (_broken, "1 pair of .* cannot be used"),
        (_twin, "have the same name"),
        (_no_masks, "lacks masks: images go to .*train/images, masks to"),
        (_no_train, "but no train: add train/images and train/masks"),
    ],
)
def test_what_is_wrong_with_a_folder_is_said(root, harm, message):
    harm(root)
    with pytest.raises(UserError, match=message):
        load(root)


def test_a_value_that_is_no_class_is_answered_with_what_would_do(root):
    with pytest.raises(UserError, match=r"classes from 0 to 2 \(255 means no class\), got 9: give --void=9"):
        load(root, void=255, classes=3)
    with pytest.raises(UserError, match="no value means no class"):
        load(root, void=-1, classes=3)
    assert len(load(root, void=255).class_names) == 10


def test_another_kind_of_data_set_has_no_masks(tmp_path):
    for dataset, message in (("cifar10", "has no masks for --task=segmentation"), ("folder:", "names no folder")):
        with pytest.raises(UserError, match=message):
            source.load(config.from_values({"task": "segmentation", "dataset": dataset}).data, 0)
    with pytest.raises(UserError, match="there is no such folder"):
        load(tmp_path / "nowhere")
    (tmp_path / "cat").mkdir()
    with pytest.raises(UserError, match="expected a folder train, and optionally val and test, in"):
        load(tmp_path)


def test_camvid_is_a_folder_like_any_other(shared_data):
    if not (shared_data / "camvid").is_dir():
        pytest.skip(f"no {shared_data / 'camvid'}")
    result = load(shared_data / "camvid", void=11)
    assert {name: split.size for name, split in result.splits.items()} == {"train": 367, "val": 101, "test": 233}
    assert len(result.class_names) == 11 and result.frame == (192, 240)
    counts = np.bincount(result.splits["train"].framed(np.arange(367))[1][:, :180].ravel(), minlength=256)
    shares = counts[[*range(11), VOID]] / counts.sum()
    assert shares == pytest.approx(
        [0.168, 0.232, 0.010, 0.318, 0.045, 0.097, 0.012, 0.011, 0.059, 0.006, 0.003, 0.040], abs=6e-4
    )
    assert segmentation.mask_facts(str(shared_data / "camvid/train/masks/0001TP_006690.png"), 11).highest <= 10
