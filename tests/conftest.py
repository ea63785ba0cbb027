"""Quiet TensorFlow for every test process, and a cache folder of the tests' own."""

import gc
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands import Ended, command

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as dico_tf.startup does
# Two test processes share two cores; and with one thread each, sums have one order, however busy the machine is.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
_CACHE = tempfile.TemporaryDirectory(prefix="dico_tf_cache_")
os.environ["XDG_CACHE_HOME"] = _CACHE.name


def pytest_collection_finish() -> None:
    """Exclude imported modules from garbage collection, which saves a tenth of the time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real networks and photos, or skip the test."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    result = Path(os.environ.get("DICO_DATA", beside))
    if not result.is_dir():
        pytest.skip(f"no {result}: set DICO_DATA to the folder that holds mobilenet_tflite and nips17")
    return result


@pytest.fixture
def here() -> Callable[..., Ended]:
    """Return a function that runs a script in this process: (status, standard output, standard error)."""
    return command
