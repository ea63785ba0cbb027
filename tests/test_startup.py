"""Packages that are hidden while TensorFlow is imported."""

import importlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dico_tf import startup

ROOT = Path(__file__).parents[1]


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Make two packages that can be imported, and import one of them."""
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("dico_known", "dico_new"):
        (tmp_path / f"{name}.py").write_text("")
    yield importlib.import_module("dico_known")
    for name in ("dico_known", "dico_new"):
        sys.modules.pop(name, None)


def test_what_is_absent_cannot_be_imported_for_a_while(packages):
    with startup._hidden(("dico_known", "dico_new", "dico_nowhere")):
        assert importlib.import_module("dico_known") is packages
        with pytest.raises(ImportError):
            importlib.import_module("dico_new")
    assert importlib.import_module("dico_new") and "dico_nowhere" not in sys.modules


def test_it_is_there_again_when_what_was_imported_fails(packages):
    with pytest.raises(ZeroDivisionError), startup._hidden(("dico_new",)):
        _ = 1 / 0
    assert importlib.import_module("dico_new")


def test_the_reason_of_a_crash_while_tensorflow_starts_stays_on_the_screen(tmp_path):
    crash = "import os\nos.write(2, b'no such instruction\\n')\nos.abort()\n"
    (tmp_path / "tensorflow.py").write_text(crash)
    path = f"import sys\nsys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]\n"
    code = f"{path}from dico_tf import startup\nstartup.tensorflow()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == -signal.SIGABRT and "no such instruction" in done.stderr


@pytest.mark.parametrize(("before", "after"), [(None, "2"), ("0", "0")])
def test_the_level_of_messages_is_the_users_where_it_is_set(before, after, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", sys)
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "1")
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", before or "")
    if before is None:
        monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL")
    startup.tensorflow()
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == after
