import shutil

import pytest

from dico_tf.errors import UserError
from dico_tf.start.folder_report import look


def test_a_folder_of_classes_is_counted(photos):
    report = look(photos({"a": 12, "b": 20}))
    assert report.parts == {"": {"a": 12, "b": 20}} and report.classes == ("a", "b")
    assert report.short_side == 48 and not report.unbalanced
    assert [*report.lines()] == [
        "images     32 of 2 classes, 12 to 20 each; a fifth is drawn for the test; short side 48 pixels"
    ]


def test_files_that_cannot_be_used_are_counted(photos):
    folder = photos({"train/a": 12, "train/b": 12, "test/a": 3, "test/b": 3})
    shutil.copy(folder / "test/a/000.png", folder / "train/a/copy.png")
    shutil.copy(folder / "train/a/001.png", folder / "train/b/copy.png")
    (folder / "train/b/text.jpg").write_text("no image")
    report = look(folder)
    assert report.parts == {"train": {"a": 12, "b": 12}, "test": {"a": 3, "b": 3}}
    assert (report.unreadable, report.copies, report.leaked, report.mislabelled) == (1, 2, 1, 1)
    lines = [*report.lines()]
    assert lines[0].startswith("images     30 of 2 classes, 12 each; in train, test")
    assert lines[1:] == [
        "unreadable 1 file, left out",
        "duplicates 2 files; 1 of them in another part; 1 of them in another class, left out",
    ]


def test_the_fingerprint_follows_the_files(photos):
    folder = photos({"a": 3, "b": 3})
    before = look(folder).fingerprint
    assert look(folder).fingerprint == before
    (folder / "a/000.png").rename(folder / "a/900.png")
    assert look(folder).fingerprint != before


def test_unbalanced_and_small_classes_are_told(photos):
    report = look(photos({"a": 4, "b": 13}))
    assert report.unbalanced
    assert [*report.lines()][-1] == "few images a class has only 4: expect little of it, and add some"


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({"images": 2, "masks": 2}, "images and masks, for which there is no plan"),
        ({"train/images": 2, "train/masks": 2}, "images and masks, for which there is no plan"),
        ({"a": 2}, "one class only"),
    ],
)
def test_folders_without_a_plan_are_refused(photos, classes, message):
    with pytest.raises(UserError, match=message):
        look(photos(classes))


def test_a_class_of_copies_is_refused(photos):
    folder = photos({"a": 2, "b": 1})
    shutil.copy(folder / "a/000.png", folder / "b/000.png")
    with pytest.raises(UserError, match="no image that can be used in b: all are unreadable or copies"):
        look(folder)


def test_a_folder_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(UserError, match="there is no such folder"):
        look(tmp_path / "none")
