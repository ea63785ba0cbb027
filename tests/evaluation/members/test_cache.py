"""Tests of the disk cache of logits and costs."""

import json

import numpy as np
import pytest

from dico_tf.errors import UserError
from dico_tf.evaluation.cost import Cost
from dico_tf.evaluation.members.cache import Cache, default

LOGITS = np.arange(6, dtype=np.float32).reshape(3, 2)
KEY = ("a" * 64, "f" * 32, "test")


@pytest.fixture
def cache(tmp_path):
    cache = Cache(tmp_path / "kept")
    cache.write_logits(*KEY, LOGITS)
    return cache


def test_what_was_kept_is_read_again(cache):
    assert (cache.logits(*KEY, 3) == LOGITS).all()


@pytest.mark.parametrize("other", [("b" * 64, *KEY[1:]), (KEY[0], "e" * 32, "test"), (*KEY[:2], "validation")])
def test_another_member_other_images_or_another_split_find_nothing(cache, other):
    assert cache.logits(*other, 3) is None


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "other"])
def test_a_damaged_file_is_said_and_asked_for_again(cache, damage, caplog):
    (path,) = cache.folder.glob("*.npz")
    whole = path.read_bytes()
    if damage == "other":  # whole, but copied to a name that says something else
        path = path.rename(path.with_name(path.name.replace("aaa", "baa", 1)))
        assert cache.logits("b" + "a" * 63, *KEY[1:], 3) is None
    else:
        damaged = {"cut": whole[: len(whole) // 2], "flipped": whole.replace(b"\x80?", b"\x80>"), "empty": b""}[damage]
        assert damaged != whole
        path.write_bytes(damaged)
        assert cache.logits(*KEY, 3) is None
    assert "the network runs again" in caplog.text


def test_a_count_that_does_not_fit_is_not_taken(cache):
    assert cache.logits(*KEY, 4) is None


def test_nothing_half_written_is_left(cache):
    assert [path.suffix for path in cache.folder.iterdir()] == [".npz"]


def test_costs_come_back_and_times_only_on_the_machine_that_took_them(cache):
    cost = Cost(macs=5, params=7, milliseconds=1.5)
    cache.write_cost(KEY[0], cost, "here", "it answers with logits")
    assert cache.cost(KEY[0], "here") == (cost, "it answers with logits")
    there, _ = cache.cost(KEY[0], "there")
    assert (there.macs, there.params) == (5, 7) and np.isnan(there.milliseconds)


def test_a_damaged_cost_is_said_and_counted_again(cache, caplog):
    cache.write_cost(KEY[0], Cost(macs=5), "here", "")
    (path,) = cache.folder.glob("*.json")
    path.write_text(json.dumps({"format": 1}))
    assert cache.cost(KEY[0], "here") is None and "the cost is determined again" in caplog.text


def test_a_folder_that_cannot_be_is_refused(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot create --cache="):
        Cache(tmp_path / "file" / "below")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"cannot create the cache .*: .*; set XDG_CACHE_HOME to a folder"):
        Cache()


def test_a_disk_without_room_costs_only_what_would_have_been_kept(cache, monkeypatch, caplog):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    cache.write_logits("c" * 64, "f" * 32, "test", LOGITS)
    assert "the cache of members is not updated: cannot write" in caplog.text and len(list(cache.folder.iterdir())) == 1


def test_it_stands_in_the_users_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default() == tmp_path / "dico_tf" / "logits"
