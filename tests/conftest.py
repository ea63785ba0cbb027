"""Quiet TensorFlow for every test process, a cache folder of the tests' own, and who shares a process with whom."""

import os
import tempfile

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
_CACHE = tempfile.TemporaryDirectory(prefix="dico_tf_cache_")
os.environ["XDG_CACHE_HOME"] = _CACHE.name

SHARED = {"run", "exported", "described"}  # of tests/export: made once for several files


def pytest_collection_modifyitems(items) -> None:
    """Tests of a file stay together, because they share what is dear to make."""
    for item in items:
        file = item.nodeid.partition("::")[0]
        together = file.startswith("tests/export/") and SHARED & set(item.fixturenames)
        item.add_marker(pytest.mark.xdist_group("exported" if together else file))
