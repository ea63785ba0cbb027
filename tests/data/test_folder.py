import os
import shutil

import numpy as np
import pytest
from PIL import Image

from dico_tf.config import Data
from dico_tf.data import image_decoding, memory_budget
from dico_tf.data import source as sources
from dico_tf.errors import UserError


def _load(place, seed=0, **options):
    return sources.load(Data(dataset=f"folder:{place}", **options), seed)


def test_classes_are_sorted_by_name_and_a_fifth_of_each_is_drawn_for_the_test(pets):
    result = _load(pets)
    assert result.class_names == ("cat", "dog") and result.name == "folder:pets"
    train, test = result.splits["train"], result.splits["test"]
    assert np.bincount(train.labels).tolist() == [8, 16] and np.bincount(test.labels).tolist() == [2, 4]
    assert not set(train.ids) & set(test.ids)
    assert all(id.startswith(result.class_names[label]) for id, label in zip(train.ids, train.labels, strict=True))


def test_the_drawn_split_follows_the_seed(pets):
    assert _load(pets, 1).fingerprint == _load(pets, 1).fingerprint != _load(pets, 2).fingerprint


def test_folders_named_train_val_and_test_are_the_splits(tmp_path, picture):
    for part, count in (("train", 4), ("val", 2), ("test", 3)):
        for kind in ("b", "a"):
            for n in range(count):
                picture(f"{part}/{kind}/{n}.png", seed=n)
    result = _load(tmp_path)
    assert {name: split.size for name, split in result.splits.items()} == {"train": 8, "val": 4, "test": 6}
    assert result.splits["val"].ids.tolist() == ["val/a/0.png", "val/a/1.png", "val/b/0.png", "val/b/1.png"]


def test_a_missing_test_folder_is_drawn_from_train_and_val_stays(tmp_path, picture):
    for part in ("train", "val"):
        for kind in ("a", "b"):
            for n in range(10):
                picture(f"{part}/{kind}/{n}.png", seed=n)
    sizes = {name: split.size for name, split in _load(tmp_path).splits.items()}
    assert sizes == {"train": 16, "val": 20, "test": 4}


@pytest.mark.parametrize(
    ("size", "requested", "given"), [((48, 48), 0, 48), ((40, 30), 0, 224), ((300, 300), 0, 224), ((48, 48), 20, 20)]
)
def test_small_squares_keep_their_size_and_the_rest_become_224(tmp_path, picture, size, requested, given):
    for kind in ("a", "b"):
        for n in range(2):
            picture(f"{kind}/{n}.png", size)
    result = _load(tmp_path, image_size=requested)
    assert result.image_size == given
    assert result.splits["train"].images.shape == (2, given, given, 3)


def test_pictures_of_every_format_are_read_alike_on_demand_and_at_once(tmp_path, picture, monkeypatch):
    for kind in ("a", "b"):
        for n, name in enumerate(["0.jpg", "1.JPEG", "2.png", "3.bmp", "4.GIF", "5.webp"]):
            picture(f"train/{kind}/{name}", seed=n)
            picture(f"test/{kind}/{name}", seed=n)
    at_once = _load(tmp_path, image_size=24).splits["train"]
    monkeypatch.setattr(memory_budget, "AT_ONCE", 0)
    on_demand = _load(tmp_path, image_size=24).splits["train"]
    assert at_once.size == 12 and at_once.images is not None and on_demand.images is None
    assert np.array_equal(on_demand.take(np.arange(12).reshape(3, 4)), at_once.images.reshape(3, 4, 24, 24, 3))


def test_the_centre_is_cut_out_after_the_short_side_is_made_to_fit(tmp_path):
    stripes = np.zeros((20, 60, 3), np.uint8)
    stripes[:, 20:40] = (10, 200, 30)
    Image.fromarray(stripes).save(tmp_path / "wide.png")
    Image.fromarray(stripes.swapaxes(0, 1)).save(tmp_path / "tall.png")
    for name in ("wide.png", "tall.png"):
        result = image_decoding.decode(str(tmp_path / name), 10, 10)
        assert result.shape == (10, 10, 3) and (result[1:-1, 1:-1] == (10, 200, 30)).all()


def test_grey_transparent_and_deep_pictures_become_rgb(picture, tmp_path):
    def middle(path):
        return image_decoding.decode(str(path), 8, 8)[4, 4].tolist()

    assert middle(picture("grey.png", colour=77, mode="L")) == [77, 77, 77]
    assert middle(picture("clear.png", colour=(255, 0, 0, 0), mode="RGBA")) == [255, 255, 255]
    assert middle(picture("half.png", colour=(255, 0, 0, 128), mode="RGBA")) == [255, 127, 127]
    assert middle(picture("solid.png", colour=(9, 8, 7, 255), mode="RGBA")) == [9, 8, 7]
    assert middle(picture("palette.gif", colour=(0, 0, 255))) == [0, 0, 255]
    assert middle(picture("ink.jpg", colour=(0, 0, 0, 0), mode="CMYK")) == [255, 255, 255]
    Image.fromarray(np.full((9, 9), 77 * 256 + 5, np.uint16)).save(tmp_path / "deep.png")
    assert middle(tmp_path / "deep.png") == [77, 77, 77]


def test_a_photo_that_lies_on_its_side_is_put_upright(tmp_path):
    photo = np.zeros((40, 80, 3), np.uint8)
    photo[:, :40] = 255  # white on the left
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned right by 90 degrees: white comes to the top
    Image.fromarray(photo).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    path = str(tmp_path / "turned.jpg")
    assert image_decoding.check(path) == (40, 80)
    result = image_decoding.decode(path, 20, 20)
    assert result[:8].mean() > 245 and result[-8:].mean() < 10


@pytest.mark.parametrize("orientation", [0, 9, 300])
def test_an_orientation_there_is_not_leaves_a_photo_as_it_lies(tmp_path, picture, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = str(picture("photo.jpg", size=(40, 30), exif=exif))
    assert image_decoding.check(path) == (40, 30) == image_decoding.whole(path, 30).size


def _damage(place):
    """A text, an empty file and a photo cut short, all called .jpg."""
    (place / "cat" / "text.jpg").write_text("no picture")
    (place / "dog" / "empty.jpg").touch()
    whole = (place / "dog" / "00.jpg").read_bytes()
    (place / "dog" / "short.jpg").write_bytes(whole[: len(whole) // 2])


def test_pictures_that_cannot_be_read_are_named(pets):
    _damage(pets)
    with pytest.raises(UserError, match="3 images cannot be read") as caught:
        _load(pets)
    message = str(caught.value)
    assert "--skip_unreadable" in message and "more" not in message
    for name in (
        "cat/text.jpg: cannot identify",
        "dog/empty.jpg: the file is empty",
        "dog/short.jpg: image file is trun",
    ):
        assert f"{pets}/{name}" in message


def test_pictures_that_cannot_be_read_are_left_out_when_asked_for(pets, caplog):
    whole = _load(pets)
    _damage(pets)
    result = _load(pets, skip_unreadable=True)
    assert result.fingerprint == whole.fingerprint
    assert "3 images cannot be read, left out" in caplog.text


def test_of_equal_files_one_is_used_that_of_the_test_first(tmp_path, picture, caplog):
    for part, seeds in (("train", (0, 1, 2, 3)), ("val", (4, 5)), ("test", (6, 7))):
        for kind in (0, 1):
            for n, seed in enumerate(seeds):
                picture(f"{part}/{kind}/{n}.png", seed=seed + 100 * kind)
    shutil.copy(tmp_path / "test/0/1.png", tmp_path / "train/0/3.png")
    shutil.copy(tmp_path / "test/0/1.png", tmp_path / "val/0/1.png")
    shutil.copy(tmp_path / "train/1/2.png", tmp_path / "train/1/9.png")
    assert _load(tmp_path).splits["train"].size == 9
    splits = _load(tmp_path, skip_duplicates=True).splits
    assert splits["test"].size == 4
    assert splits["val"].ids.tolist() == ["val/0/0.png", "val/1/0.png", "val/1/1.png"]
    assert splits["train"].ids.tolist() == [
        *("train/0/0.png", "train/0/1.png", "train/0/2.png"),
        *("train/1/0.png", "train/1/1.png", "train/1/2.png", "train/1/3.png"),
    ]
    assert "3 images left out, equal to others" in caplog.text
    assert f"{tmp_path}/train/1/9.png equals {tmp_path}/train/1/2.png" in caplog.text


def test_a_class_that_only_has_duplicates_is_refused(tmp_path, picture):
    for part in ("train", "test"):
        for kind in (0, 1):
            for n in range(2):
                picture(f"{part}/{kind}/{n}.png", seed=n + 10 * kind + 100 * (part == "test"))
    for n in range(2):
        shutil.copy(tmp_path / f"test/1/{n}.png", tmp_path / f"train/1/{n}.png")
    with pytest.raises(UserError, match=r"^all images of 1 class of .* equal others") as caught:
        _load(tmp_path, skip_duplicates=True)
    assert "\n  train/1\n" in str(caught.value) and "leave out --skip_duplicates" in str(caught.value)


def test_of_many_unreadable_pictures_ten_are_named_and_all_are_counted(pets):
    for n in range(20):
        (pets / "dog" / f"{n:02d}.jpg").write_text("no picture")
    with pytest.raises(UserError, match=r"^20 images") as caught:
        _load(pets)
    assert str(caught.value).count("/dog/") == 10 and str(caught.value).endswith("and 10 more")
    with pytest.raises(UserError, match=r"no image of 1 class of .*pets can be read: repair .*\n  dog"):
        _load(pets, skip_unreadable=True)


def test_hidden_and_other_files_are_ignored(pets):
    whole = _load(pets).fingerprint
    (pets / ".cache").mkdir()
    (pets / "cat" / ".hidden.jpg").write_text("no picture")
    (pets / "cat" / "notes.txt").write_text("no picture")
    (pets / "README.md").write_text("no class")
    assert _load(pets).fingerprint == whole


def _nothing(place):
    shutil.rmtree(place)


def _no_content(place):
    shutil.rmtree(place)
    place.mkdir()


def _loose(place):
    for path in place.glob("*/*.jpg"):
        path.rename(place / f"{path.parent.name}{path.name}")
    for kind in ("cat", "dog"):
        (place / kind).rmdir()


def _one_class(place):
    shutil.rmtree(place / "dog")


def _empty_class(place):
    (place / "bird").mkdir()


def _in_parts(place):
    content = list(place.iterdir())
    for part in ("train", "test"):
        for kind in content:
            shutil.copytree(kind, place / part / kind.name)
    for kind in content:
        shutil.rmtree(kind)


def _other_classes(place):
    _in_parts(place)
    (place / "test" / "cat").rename(place / "test" / "wolf")


def _only_test(place):
    _in_parts(place)
    shutil.rmtree(place / "train")


def _misnamed_part(place):
    _in_parts(place)
    (place / "validation").mkdir()


def _circle(place):
    (place / "fox").symlink_to("fox")


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (_circle, r"cannot read the folder .*pets/fox: Too many levels"),
        (_nothing, r"--dataset=folder:.*pets: there is no such folder"),
        (_no_content, r"pets has no folder per class: put images in .*pets/CLASS/\*\.jpg"),
        (_loose, r"pets has 30 images but no folder per class"),
        (_one_class, r"one class only, cat: at least two"),
        (_empty_class, r"(?s)1 class of .*pets without images.*pets/bird"),
        (_other_classes, r"(?s)differ between its parts.*test lacks cat.*test has wolf, which train does not have"),
        (_only_test, r"has test but no train"),
        (_misnamed_part, r"has a folder validation; it must be one of train, val, test: rename it to val"),
    ],
)
def test_a_folder_laid_out_otherwise_is_refused_with_what_is_wrong(pets, harm, message):
    harm(pets)
    with pytest.raises(UserError, match=message):
        _load(pets)


def test_a_folder_that_is_not_named_is_asked_for():
    with pytest.raises(UserError, match="give --dataset=folder:DIR"):
        _load("")


def test_pictures_are_decoded_where_a_system_does_not_say_which_cores_are_ours(pets, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(image_decoding, "pool", image_decoding.pool.__wrapped__)
    assert _load(pets).splits["train"].size == 24


def test_a_picture_that_vanishes_during_a_run_is_named(pets, monkeypatch):
    monkeypatch.setattr(memory_budget, "AT_ONCE", 0)
    split = _load(pets).splits["train"]
    (pets / split.ids[3]).unlink()
    with pytest.raises(UserError, match=str(split.ids[3])):
        split.take(np.arange(5))
