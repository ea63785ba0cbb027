"""The cache of arrays made from a dataset's files: what it returns, what it removes, and what it does not store."""

import logging
import os
from pathlib import Path

import numpy as np
import pytest

from dico_tf.data import dataset_cache


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "dico_tf" / "decoded"


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "data.tfrecord"
    path.write_bytes(b"some records")
    return path


class Maker:
    """Makes arrays, and counts how often."""

    def __init__(self, size: int = 100):
        self.size, self.calls = size, 0

    def __call__(self):
        self.calls += 1
        return {"images": np.full(self.size, self.calls, np.uint8)}


def cached(name, file, make, about=()):
    return dataset_cache.cached("decoded", name, [file], about, make, lambda arrays: list(arrays) == ["images"])


def test_arrays_are_made_once_for_the_same_files(folder, file):
    make = Maker()
    assert [cached("train", file, make)["images"][0] for _ in range(3)] == [1, 1, 1]
    assert make.calls == 1 and len(list(folder.iterdir())) == 1


@pytest.mark.parametrize(
    "change",
    [lambda file: file.write_bytes(b"other records"), lambda file: os.utime(file, ns=(1, 1))],
    ids=["content", "time"],
)
def test_changed_files_are_read_again_and_the_old_arrays_go(folder, file, change):
    make = Maker()
    cached("train", file, make)
    change(file)
    assert cached("train", file, make)["images"][0] == 2
    assert len(list(folder.iterdir())) == 1


def test_what_else_the_arrays_depend_on_counts_too(folder, file):
    make = Maker()
    cached("train", file, make, about=(32,))
    assert cached("train", file, make, about=(48,))["images"][0] == 2


@pytest.mark.parametrize("harm", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: data[:90] * 2])
def test_damaged_arrays_are_made_again(folder, file, harm, caplog):
    make = Maker()
    cached("train", file, make)
    (path,) = folder.iterdir()
    path.write_bytes(harm(path.read_bytes()))
    assert cached("train", file, make)["images"][0] == 2 and "are read again" in caplog.text
    assert cached("train", file, make)["images"][0] == 2


def test_arrays_of_other_names_are_made_again(folder, file, caplog):
    dataset_cache.cached("decoded", "train", [file], (), lambda: {"x": np.zeros(3)}, lambda arrays: True)
    assert cached("train", file, Maker())["images"][0] == 1 and "other arrays" in caplog.text


def test_the_least_recently_used_arrays_make_room(folder, file, monkeypatch):
    monkeypatch.setattr(dataset_cache, "LIMIT", 3000)
    make = Maker(1000)
    for name in ("one", "two"):
        cached(name, file, make)
    for age, path in enumerate(sorted(folder.iterdir())):  # one is the oldest
        os.utime(path, (1000 + age, 1000 + age))
    cached("one", file, make)  # used now
    cached("three", file, make)
    assert sorted(path.name.split("-")[0] for path in folder.iterdir()) == ["one", "three"]


def test_arrays_that_are_too_large_are_not_stored(folder, file, monkeypatch):
    monkeypatch.setattr(dataset_cache, "LIMIT", 99)
    make = Maker(100)
    assert [cached("train", file, make)["images"][0] for _ in range(2)] == [1, 2]
    assert not list(folder.iterdir())


def test_arrays_are_not_stored_on_a_disk_that_is_nearly_full(folder, file, monkeypatch):
    monkeypatch.setattr(dataset_cache, "SPARE", 10**18)
    cached("train", file, Maker())
    assert not list(folder.iterdir())


def test_a_folder_that_cannot_be_written_is_only_a_warning(file, tmp_path, monkeypatch, caplog):
    (tmp_path / "occupied").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "occupied"))
    with caplog.at_level(logging.WARNING):
        assert cached("train", file, Maker())["images"][0] == 1
    assert "is not cached" in caplog.text
