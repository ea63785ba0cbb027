import sys

import pytest

from dico_tf.errors import UserError
from dico_tf.export import folder
from dico_tf.files.locks import lock
from dico_tf.training.workdir import Claim


def test_a_file_is_locked_once_until_it_is_closed(tmp_path):
    path = tmp_path / ".lock"
    with path.open("a") as first, path.open("a") as second:
        lock(first)
        with pytest.raises(BlockingIOError):
            lock(second)
        first.close()
        lock(second)


def test_a_system_without_fcntl_gets_one_message(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    message = "need a system with fcntl, such as Linux or macOS: on Windows, use WSL"
    with pytest.raises(UserError, match=message):
        Claim(tmp_path / "run")
    with pytest.raises(UserError, match=message), folder.claimed(tmp_path):
        pass
