"""Folders of pictures whose classes a table says."""

import numpy as np
import pytest

from dico_tf.config import Config, Data
from dico_tf.data.folder import load
from dico_tf.errors import UserError
from dico_tf.training.run import splits


@pytest.fixture
def table(tmp_path, picture):
    """Writes the table beside six pictures, three of them in images/."""
    for n in range(3):
        picture(f"{n}.png", colour=(10 * n, 0, 0))
        picture(f"images/{n + 3}.png", colour=(10 * n, 9, 0))

    def write(text: str, name: str = "labels.csv") -> Data:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return Data(dataset=f"folder:{tmp_path}/{name}", image_size=16)

    return write


def test_numbers_are_the_classes_own_and_all_pictures_are_test(table, tmp_path):
    result = load(table("image,label,author\n0.png,4,me\n5.png,0,you\n1.png,4,me\n"), 0)
    assert result.name == f"folder:{tmp_path.name}/labels.csv" and set(result.splits) == {"test"}
    assert result.class_names == ("class_0", "class_1", "class_2", "class_3", "class_4")
    test = result.splits["test"]
    assert dict(zip(test.ids.tolist(), test.labels.tolist(), strict=True)) == {
        "images/5.png": 0,
        "0.png": 4,
        "1.png": 4,
    }


def test_names_are_numbered_in_their_order_and_a_column_says_the_split(table):
    text = "\ufefflabel, image ,split\ndog,0.png,train\ncat,1.png,train\ncat,3.png,test\ndog,4.png,val\n"
    result = load(table(text), 0)
    assert result.class_names == ("cat", "dog")
    assert {part: split.labels.tolist() for part, split in result.splits.items()} == {
        "train": [0, 1],
        "val": [1],
        "test": [0],
    }
    red = result.splits["train"].take(np.array([1]))[0, 0, 0]
    assert red.tolist() == [0, 0, 0]


def test_a_table_without_train_cannot_be_trained_on(table):
    result = load(table("image,label\n0.png,a\n1.png,b\n"), 0)
    with pytest.raises(
        UserError, match="no training images: a table of labels needs rows with train in a column `split`"
    ):
        splits(Config(), result)


def test_a_table_may_list_validation_images_only(table):
    result = load(table("image,label,split\n0.png,a,val\n1.png,b,val\n"), 0)
    assert set(result.splits) == {"val"} and result.splits["val"].size == 2


def test_a_test_needs_two_images_of_a_class(table):
    with pytest.raises(UserError, match="no class has two images"):
        load(table("image,label,split\n0.png,a,train\n1.png,b,train\n"), 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column 'image'; its first line is empty"),
        ("image,lable\n0.png,a\n", "no column 'label'; did you mean lable"),
        ("image,label\n", "lists no image"),
        ("image,label\n0.png,a\n1.png,a\n", "one class only, a"),
        ("image,label\n0.png,a\n0.png,b\n", "row 3: 0.png is listed twice"),
        ("image,label\n0.png,a\n1.png,\n", "row 3 has no label"),
        ("image,label,split\n0.png,a,train\n1.png,b,dev\n", "row 3: split must be one of train, val, test, got 'dev'"),
        ("image,label\n0.png,a\n9.png,b\n", r"1 image of .*labels.csv not found"),
        ("image,label\n0.png,a\n,b\n", "row 3 has no image"),
        (
            "image,label\n0.png,a\n../x.png,b\n",
            "1 image of .* outside of the table's folder: expected paths rela",
        ),
        ("image,label\n0.png,1\n1.png,12345678\n", "expected class numbers below 1,000,000, got 12345678"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(table, text, message):
    with pytest.raises(UserError, match=message):
        load(table(text), 0)


def test_a_table_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match="there is no such file"):
        load(Data(dataset=f"folder:{tmp_path}/none.csv"), 0)


def test_a_class_without_pictures_stays_one_where_a_picture_cannot_be_read(table, tmp_path):
    (tmp_path / "2.png").write_bytes(b"no picture")
    data = table("image,label\n0.png,0\n1.png,3\n2.png,3\n")
    with pytest.raises(UserError, match="1 image cannot be read"):
        load(data, 0)
    result = load(Data(dataset=data.dataset, image_size=16, skip_unreadable=True), 0)
    assert result.splits["test"].size == 2 and len(result.class_names) == 4
