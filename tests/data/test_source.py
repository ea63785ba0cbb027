import dataclasses

import numpy as np
import pytest

from dico_tf.config import Data
from dico_tf.data import source as sources
from dico_tf.data.source import Source, Split
from dico_tf.errors import UserError


def _split(labels=(0, 1, 1), prefix="a"):
    images = np.zeros((len(labels), 4, 4, 3), np.uint8)
    return Split(images=images, labels=labels, ids=[f"{prefix}{n}" for n in range(len(labels))])


def _source(**changes):
    plain = Source(name="made", class_names=("x", "y"), image_size=4, splits={"train": _split()})
    return dataclasses.replace(plain, **changes)


def test_digits_are_split_the_same_for_every_seed_with_a_fifth_of_each_class_for_the_test():
    first, other = sources.load(Data(dataset="digits"), seed=0), sources.load(Data(dataset="digits"), seed=1)
    assert first.fingerprint == other.fingerprint
    train, test = first.splits["train"], first.splits["test"]
    assert (train.size, test.size, first.image_size) == (1438, 359, 32)
    assert train.images.shape == (1438, 32, 32, 3) and train.images.dtype == np.uint8
    assert not set(train.ids) & set(test.ids)
    assert np.bincount(test.labels).min() >= 35 and first.class_names == tuple("0123456789")


def test_the_statistics_of_digits_are_those_of_its_pixels():
    result = sources.load(Data(dataset="digits"), 0)
    pixels = np.concatenate([split.images for split in result.splits.values()]) / 255
    assert np.allclose(result.mean, pixels.mean((0, 1, 2)), atol=1e-3)
    assert np.allclose(result.std, pixels.std((0, 1, 2)), atol=1e-3)


def test_digits_come_in_any_size():
    result = sources.load(Data(dataset="digits", image_size=16), 0)
    assert result.image_size == 16 and result.splits["test"].images.shape == (359, 16, 16, 3)


def test_a_label_without_a_class_is_refused_with_its_image():
    with pytest.raises(UserError, match=r"expected labels from 0 to 3.* first is digit_\d+ with label [4-9]"):
        sources.load(Data(dataset="digits", classes=4), 0)


def test_more_classes_than_the_data_set_has_are_given_names():
    names = sources.load(Data(dataset="digits", classes=12), 0).class_names
    assert names[8:] == ("8", "9", "class_10", "class_11")


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "other"},
        {"image_size": 8},
        {"class_names": ("x", "z")},
        {"splits": {"train": _split((0, 1, 0))}},
        {"splits": {"train": _split(prefix="b")}},
        {"splits": {"train": _split(), "test": _split()}},
        {"splits": {"test": _split()}},
    ],
)
def test_the_fingerprint_tells_what_changed_and_nothing_else(changes):
    assert _source(**changes).fingerprint != _source().fingerprint
    assert _source().fingerprint == _source(mean=(0.0, 0.0, 0.0)).fingerprint == "fa6575c0d69d1ca3"


def test_taking_images_keeps_the_shape_of_the_positions():
    images = np.arange(5, dtype=np.uint8)[:, None, None, None].repeat(3, axis=-1)
    split = Split(images=images, labels=[0] * 5, ids=range(5))
    assert split.take(np.array([[4, 0], [1, 1]]))[..., 0, 0, 0].tolist() == [[4, 0], [1, 1]]


def test_memory_mapped_images_serve_as_well(tmp_path):
    np.save(tmp_path / "images.npy", np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3), np.uint8))
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    split = Split(images=mapped, labels=[0] * 6, ids=range(6))
    assert isinstance(split.images, np.memmap)
    assert np.array_equal(split.take(np.array([5, 2])), np.asarray(mapped)[[5, 2]])


@pytest.mark.parametrize(
    "parts",
    [
        {"labels": [0], "ids": ["a"]},
        {"labels": [0, 1], "ids": ["a"], "images": np.zeros((2, 4, 4, 3), np.uint8)},
        {"labels": [0], "ids": ["a"], "images": np.zeros((1, 4, 4, 1), np.uint8)},
        {"labels": [0], "ids": ["a"], "images": np.zeros((1, 4, 4, 3), np.float32)},
    ],
)
def test_a_split_that_does_not_fit_together_is_refused(parts):
    with pytest.raises(ValueError):
        Split(**parts)
