"""Packages that are left out while TensorFlow is imported, and are there afterwards."""

import importlib
import sys

import pytest

from dico_tf import quiet


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Two that can be imported, of which one already is."""
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("dico_known", "dico_new"):
        (tmp_path / f"{name}.py").write_text("")
    yield importlib.import_module("dico_known")
    for name in ("dico_known", "dico_new"):
        sys.modules.pop(name, None)


def test_what_is_absent_cannot_be_imported_for_a_while(packages):
    with quiet._absent(("dico_known", "dico_new", "dico_nowhere")):
        assert importlib.import_module("dico_known") is packages
        with pytest.raises(ImportError):
            importlib.import_module("dico_new")
    assert importlib.import_module("dico_new") and "dico_nowhere" not in sys.modules


def test_it_is_there_again_when_what_was_imported_fails(packages):
    with pytest.raises(ZeroDivisionError), quiet._absent(("dico_new",)):
        _ = 1 / 0
    assert importlib.import_module("dico_new")
