"""Datasets of TFDS whose images stay in their files: located by an index, decoded on demand."""

import logging
import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from dico_tf.config import Data
from dico_tf.data import memory_budget, records, tf_example
from dico_tf.data import source as sources
from dico_tf.data.lazy_images import LazyImages
from dico_tf.errors import UserError
from tests.data import streets


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    return streets.prepare(tmp_path_factory.mktemp("tfds"))


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "dico_tf" / "index"


@pytest.fixture
def little_memory(monkeypatch):
    monkeypatch.setattr(memory_budget, "limit", lambda: 1000)


def _load(folder, dataset="streets", size=72):
    return sources.load(Data(dataset=dataset, data_dir=str(folder), image_size=size), seed=0)


def _parts(source) -> dict[str, np.ndarray]:
    return {name: split.take(np.arange(split.size)) for name, split in source.splits.items()}


def test_a_set_that_does_not_fit_streams_image_for_image(prepared, cache, monkeypatch):
    whole = _load(prepared)
    monkeypatch.setattr(memory_budget, "limit", lambda: 1000)
    streamed = _load(prepared)
    assert whole.splits["train"].images is not None and streamed.splits["train"].images is None
    assert whole.fingerprint == streamed.fingerprint and streamed.short_side == 82
    for name, images in _parts(whole).items():
        np.testing.assert_array_equal(images, _parts(streamed)[name])


def test_what_is_read_is_what_tfds_reads(prepared, cache, little_memory):
    result = _load(prepared)
    assert {name: split.size for name, split in result.splits.items()} == {"train": 30, "test": 10}
    in_turn = tfds.ReadConfig(interleave_cycle_length=1)
    for part, split in (("train", "train"), ("test", "validation")):
        theirs = list(
            tfds.load("streets", split=split, data_dir=str(prepared), shuffle_files=False, read_config=in_turn)
        )
        ours = result.splits[part]
        assert ours.ids.tolist() == [row["file_name"].numpy().decode() for row in theirs]
        assert ours.labels.tolist() == [int(row["label"]) for row in theirs]
        assert ours.lazy_images.sizes.tolist() == [[row["image"].shape[1], row["image"].shape[0]] for row in theirs]
        for n in (0, ours.size - 1):
            width, height = ours.lazy_images.sizes[n]
            side = min(width, height)
            place = np.float32([[[0, 0, side, side]]])
            want = tf.image.resize(theirs[n]["image"][:side, :side], (72, 72), "bicubic", antialias=True)
            assert np.abs(ours.windows(np.array([n]), place)[0, 0] - want.numpy().clip(0, 255)).mean() < 3


def test_array_records_stream_as_well(prepared, cache, little_memory, tmp_path):
    streets.prepare(tmp_path / "array", "array_record")
    one, other = _load(prepared), _load(tmp_path / "array")
    assert isinstance(other.splits["train"].lazy_images._encoded, records.ArrayRecordImages)
    for name, split in one.splits.items():
        same = other.splits[name]
        order = [same.ids.tolist().index(name) for name in split.ids]
        np.testing.assert_array_equal(split.take(np.arange(split.size)), same.take(np.array(order)))
        np.testing.assert_array_equal(split.labels, same.labels[order])


@pytest.mark.slow
def test_cifar10_streams_as_it_is_in_memory(shared_data, cache, monkeypatch):
    folder = shared_data / "tfds"
    whole = _load(folder, "cifar10", 0).splits["train"]
    monkeypatch.setattr(memory_budget, "limit", lambda: 1000)
    streamed = _load(folder, "cifar10", 0).splits["train"]
    assert streamed.images is None and streamed.ids.tolist() == whole.ids.tolist()
    some = np.random.default_rng(0).permutation(50_000)[:2000]
    np.testing.assert_array_equal(streamed.take(some), whole.images[some])


def test_a_second_start_reads_the_index_and_not_the_files(prepared, cache, little_memory, monkeypatch):
    first = _load(prepared)
    assert len(list(cache.iterdir())) == 2
    monkeypatch.setattr(records, "table", None)
    again = _load(prepared)
    assert again.fingerprint == first.fingerprint
    np.testing.assert_array_equal(_parts(again)["train"], _parts(first)["train"])


def test_a_second_start_decodes_no_image_that_fits_in_memory(prepared, cache, monkeypatch):
    first = _load(prepared)
    assert len(list((cache.parent / "decoded").iterdir())) == 2
    monkeypatch.setattr(LazyImages, "decoded", None)
    again = _load(prepared)
    for name, images in _parts(first).items():
        np.testing.assert_array_equal(_parts(again)[name], images)
    monkeypatch.undo()
    assert _load(prepared, size=64).splits["train"].images.shape == (30, 64, 64, 3)


def test_changed_files_are_read_again_and_the_old_index_goes(prepared, cache, little_memory, tmp_path):
    folder = streets.prepare(tmp_path / "own")
    _load(folder)
    before = set(cache.iterdir())
    shard = next(folder.glob("*/*/*train*-00001-*"))
    os.utime(shard, ns=(1, 1))
    _load(folder)
    after = set(cache.iterdir())
    assert len(before) == len(after) == 2 and len(before & after) == 1  # that of the validation split


@pytest.mark.parametrize("harm", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: data[:400] * 2])
def test_a_damaged_index_is_made_again(prepared, cache, little_memory, caplog, harm):
    want = _load(prepared).fingerprint
    for path in cache.iterdir():
        path.write_bytes(harm(path.read_bytes()))
    assert _load(prepared).fingerprint == want and "the dataset's files are read again" in caplog.text
    caplog.clear()
    assert _load(prepared).fingerprint == want and not caplog.text


def test_without_a_place_for_the_index_the_files_are_read_each_time(
    prepared, little_memory, tmp_path, monkeypatch, caplog
):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING):
        assert _load(prepared).splits["train"].size == 30
    assert "is not cached" in caplog.text


def _shard(folder: Path) -> Path:
    return sorted(folder.glob("*/*/*train*"))[1]


def _cut(shard: Path) -> int:
    shard.write_bytes(shard.read_bytes()[:-1000])
    return 0


def _flip(shard: Path) -> int:
    """A bit of the length of the second record; where that begins."""
    data = bytearray(shard.read_bytes())
    second = 16 + int.from_bytes(data[:8], "little")
    data[second] ^= 1
    shard.write_bytes(data)
    return second


def _no_example(shard: Path) -> int:
    data = bytearray(shard.read_bytes())
    data[12:20] = b"\xff" * 8
    shard.write_bytes(data)
    return 0


@pytest.mark.parametrize("harm", [_cut, _flip, _no_example])
def test_a_damaged_record_is_named_by_file_and_offset(cache, little_memory, tmp_path, harm):
    shard = _shard(streets.prepare(tmp_path / "own"))
    at = harm(shard)
    with pytest.raises(UserError, match=rf"^{shard} is damaged at byte {at or r'[0-9]+'} ") as caught:
        _load(tmp_path / "own")
    assert "\n" not in str(caught.value) and not cache.exists()


def test_a_picture_damaged_within_is_named_when_it_is_read(cache, little_memory, tmp_path):
    """Its head is whole: the index has no fault to find."""
    shard = _shard(streets.prepare(tmp_path / "own"))
    split = _load(tmp_path / "own").splits["train"]
    number = np.flatnonzero(split.lazy_images._encoded.places[:, 0] == 1)[0]
    _, start, length = split.lazy_images._encoded.places[number].tolist()
    data = bytearray(shard.read_bytes())
    data[start : start + length] = bytes(length)
    shard.write_bytes(data)
    with pytest.raises(UserError, match=rf"cannot read the image at byte {start} of {shard}: "):
        split.take(np.arange(30))


def test_a_file_that_is_missing_is_named(cache, tmp_path):
    shard = _shard(streets.prepare(tmp_path / "own"))
    shard.unlink()
    with pytest.raises(UserError, match=f"streets train lacks {shard}: copy the dataset again"):
        _load(tmp_path / "own")


def test_a_test_whose_labels_are_secret_gives_way_to_the_validation_images(cache, tmp_path):
    result = _load(streets.prepare(tmp_path / "own", secret_test=True))
    assert {name: split.size for name, split in result.splits.items()} == {"train": 30, "test": 10}
    assert result.splits["test"].ids[0].startswith("validation_")


def test_examples_are_read_as_tensorflow_writes_them():
    def feature(value):
        kind = {bytes: "bytes_list", int: "int64_list", float: "float_list"}[type(value)]
        return tf.train.Feature(**{kind: {"value": [value]}})

    values = {"image": bytes(range(256)) * 40, "label": -1, "far": 2**62, "id": "é".encode(), "weight": 0.5, "no": 0}
    made = tf.train.Example(features=tf.train.Features(feature={k: feature(v) for k, v in values.items()}))
    data = b"before" + made.SerializeToString() + b"after"
    result = tf_example.features(data, 6, len(data) - 5)
    assert result.keys() == values.keys()
    assert [result[key].integer() for key in ("label", "far", "no")] == [-1, 2**62, 0]
    assert result["image"].bytes() == values["image"] and result["id"].bytes().decode() == "é"
    for end in range(7, len(data) - 5, 97):
        with pytest.raises(ValueError):
            tf_example.features(data, 6, end)
