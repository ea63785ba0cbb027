import json
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds

from dico_tf.config import Data
from dico_tf.data import memory_budget
from dico_tf.data import source as sources
from dico_tf.data import tfds as loader
from dico_tf.errors import UserError


@pytest.fixture
def mocked():
    with tfds.testing.mock_data(num_examples=40):
        yield


def _load(dataset, **options):
    return sources.load(Data(dataset=dataset, **options), seed=0)


@pytest.mark.slow
def test_cifar10_is_whole_and_its_images_have_the_official_mean(shared_data):
    result = _load("cifar10", data_dir=str(shared_data / "tfds"))
    train, test = result.splits["train"], result.splits["test"]
    assert train.images.shape == (50_000, 32, 32, 3) and test.images.shape == (10_000, 32, 32, 3)
    assert np.bincount(train.labels).tolist() == [5000] * 10 and np.bincount(test.labels).tolist() == [1000] * 10
    assert result.class_names[:3] == ("airplane", "automobile", "bird")
    assert np.allclose(train.images.mean((0, 1, 2)) / 255, (0.49139968, 0.48215841, 0.44653091), atol=1e-7)
    assert (result.mean, result.std) == ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
    assert len({*train.ids, *test.ids}) == 60_000 and train.ids[0].startswith("train_")


def test_cifar100_is_read_by_its_fine_labels(mocked):
    result = _load("cifar100")
    assert len(result.class_names) == 100 and result.mean == (0.5071, 0.4865, 0.4409)
    assert {name: split.images.shape for name, split in result.splits.items()} == {
        "train": (40, 32, 32, 3),
        "test": (40, 32, 32, 3),
    }


def test_grey_images_become_rgb(mocked):
    result = _load("mnist")
    images = result.splits["train"].images
    assert result.image_size == 28 and images.shape == (40, 28, 28, 3)
    assert (images == images[..., :1]).all() and images.std() > 0
    assert result.mean == sources.IMAGENET_MEAN


def test_images_without_names_of_their_own_are_numbered(mocked):
    result = _load("mnist")
    assert result.splits["test"].ids[:2].tolist() == ["test_000000", "test_000001"]


def test_images_that_differ_in_size_need_an_image_size(mocked):
    with pytest.raises(UserError, match="tf_flowers differ in size: give --image_size"):
        _load("tf_flowers")
    assert _load("tf_flowers", image_size=24).splits["train"].images.shape == (40, 24, 24, 3)


def test_a_set_without_any_test_split_has_a_fifth_of_train_drawn(mocked, monkeypatch):
    monkeypatch.setattr(loader, "_parts", lambda builder, name: {"train": "train"})
    result = _load("tf_flowers", image_size=16)
    train, test = result.splits["train"], result.splits["test"]
    assert train.size + test.size == 40 and 5 <= test.size <= 11
    assert not set(train.ids) & set(test.ids)


@pytest.mark.parametrize(
    ("has", "taken"),
    [
        (["train", "test"], {"train": "train", "test": "test"}),
        (["train", "validation"], {"train": "train", "test": "validation"}),
        (["train", "validation", "test"], {"train": "train", "val": "validation", "test": "test"}),
        (["train"], {"train": "train"}),
    ],
)
def test_validation_serves_as_test_where_there_is_none(has, taken):
    info = type("Info", (), {"splits": dict.fromkeys(has)})
    assert loader._parts(type("Builder", (), {"info": info}), "made") == taken


def test_a_set_too_large_for_memory_without_random_access_is_refused_with_a_way_out(mocked, monkeypatch):
    monkeypatch.setattr(memory_budget, "limit", lambda: 2**10)
    with pytest.raises(UserError, match=r"imagenet2012 train .* 40 images do not fit.*TFRecord.*folder:DIR"):
        _load("imagenet2012")  # its usual 224 pixels are known


@pytest.mark.parametrize(
    ("name", "near"), [("cifar1", "cifar10"), ("digit", "digits"), ("fashion-mnist", "fashion_mnist")]
)
def test_an_unknown_data_set_is_answered_with_near_ones(name, near):
    with pytest.raises(UserError, match=f"unknown dataset '{name}'; did you mean .*{near}"):
        _load(name)


def test_a_name_like_no_other_is_answered_with_what_there_is():
    with pytest.raises(UserError, match=r"give digits, cifar10, .*folder:DIR, or an image set of https://"):
        _load("zzzzzzzz")


@pytest.mark.parametrize("name", ["cifar10:9.9.9", "imagenet_resized/9x9"])
def test_a_version_or_config_that_is_not_there_is_one_message(name):
    with pytest.raises(UserError, match=f"--dataset={name}: ") as caught:
        _load(name)
    assert "\n" not in str(caught.value)


def test_texts_are_refused_before_anything_is_downloaded(tmp_path):
    with pytest.raises(UserError, match=r"imdb_reviews is no image classification dataset.*text \(Text\)"):
        _load("imdb_reviews", data_dir=str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_without_a_network_the_folder_and_the_way_out_are_named(tmp_path, monkeypatch):
    def offline(*args, **kwargs):
        raise ConnectionError("Max retries exceeded\nmany lines")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", offline)
    with pytest.raises(UserError) as caught:
        _load("cifar10", data_dir=str(tmp_path))
    message = str(caught.value)
    assert f"cifar10 is not prepared in {tmp_path} and could not be downloaded there (no connection" in message
    assert "--data_dir must be the folder that contains cifar10/3.0.2" in message and "many lines" not in message


@pytest.mark.parametrize("inner", ["cifar10", "cifar10/3.0.2"])
def test_the_folder_of_the_set_itself_is_answered_with_the_one_that_contains_it(tmp_path, inner):
    (tmp_path / "cifar10" / "3.0.2").mkdir(parents=True)
    (tmp_path / "cifar10" / "3.0.2" / "dataset_info.json").write_text("{}")
    with pytest.raises(UserError, match=f"give the folder that contains it, {tmp_path}$"):
        _load("cifar10", data_dir=str(tmp_path / inner))


def test_damaged_files_are_one_message(tmp_path, shared_data):
    shutil.copytree(shared_data / "tfds" / "cifar10", tmp_path / "cifar10")
    record = next(tmp_path.glob("cifar10/*/cifar10-train.tfrecord*"))
    record.chmod(0o644)
    with record.open("r+b") as file:
        file.truncate(1_000_000)
    assert json.loads(next(tmp_path.glob("cifar10/*/dataset_info.json")).read_text())["name"] == "cifar10"
    with pytest.raises(UserError, match=rf"{record} is damaged at byte \d+ \(the file ends within the record\)"):
        _load("cifar10", data_dir=str(tmp_path))
