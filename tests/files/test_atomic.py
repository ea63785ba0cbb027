"""Atomic writes: files and folders are complete or absent, also on a full disk and after a kill."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from dico_tf.errors import UserError
from dico_tf.files import atomic
from tests.files.small_disk import small_disk


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {".filler"}


def test_a_new_file_takes_the_place_of_the_old_one(tmp_path):
    path = tmp_path / "a.json"
    atomic.write_text(path, "one")
    atomic.write_bytes(path, b"two")
    assert path.read_text() == "two" and names(tmp_path) == {"a.json"}


def test_an_error_in_the_block_keeps_the_old_file(tmp_path):
    path = tmp_path / "a"
    atomic.write_text(path, "one")
    with pytest.raises(KeyError), atomic.writing(path) as stream:
        stream.write(b"half")
        raise KeyError
    assert path.read_text() == "one" and names(tmp_path) == {"a"}


def test_a_full_disk_keeps_the_old_file_and_is_one_message(tmp_path):
    with small_disk(tmp_path / "disk") as fill:
        path = tmp_path / "disk" / "a"
        atomic.write_text(path, "one")
        fill()
        with pytest.raises(UserError, match=r"cannot write .*/a: .*; what was saved before is intact: make room"):
            atomic.write_bytes(path, os.urandom(1 << 20))
        assert path.read_text() == "one" and names(path.parent) == {"a"}


def test_a_full_disk_keeps_the_old_folder(tmp_path):
    with small_disk(tmp_path / "disk") as fill:
        path = tmp_path / "disk" / "step_1"
        with atomic.writing_folder(path) as folder:
            (folder / "part").write_text("one")
        fill()
        with pytest.raises(UserError, match=r"cannot write .*step_1: "), atomic.writing_folder(path) as folder:
            (folder / "part").write_bytes(bytes(1 << 20))
        assert (atomic.current(path) / "part").read_text() == "one" and names(path.parent) == {"step_1"}


def test_a_file_and_its_name_are_flushed_to_the_disk(tmp_path, monkeypatch):
    flushed, fsync = [], os.fsync

    def record(handle):
        flushed.append(Path(os.readlink(f"/proc/self/fd/{handle}")))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", record)
    atomic.write_text(tmp_path / "a", "one")
    assert flushed[0].name.startswith(".a.") and flushed[-1] == tmp_path
    flushed.clear()
    with atomic.writing_folder(tmp_path / "b") as folder:
        (folder / "part").write_text("one")
    assert {path.name for path in flushed[:2]} == {"part", ".b.writing"} and flushed[-1] == tmp_path


def test_a_writer_killed_at_any_moment_leaves_a_whole_file(tmp_path):
    path = tmp_path / "a.npy"
    atomic.write_bytes(path, bytes(100_000))
    for wait in np.linspace(0.001, 0.03, 8):
        child = os.fork()
        if not child:
            while True:
                for byte in range(256):
                    atomic.write_bytes(path, bytes([byte]) * 100_000)
        time.sleep(wait)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        content = path.read_bytes()
        assert len(content) == 100_000 and len(set(content)) == 1


def test_what_cannot_be_written_is_told_before_any_work(tmp_path):
    atomic.check_writable(tmp_path / "new" / "folder", "out")
    assert not (tmp_path / "new").exists()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"--out=.*file/below cannot be written: "):
        atomic.check_writable(tmp_path / "file" / "below", "out")
