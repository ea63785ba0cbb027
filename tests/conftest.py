"""Quiet TensorFlow for every test process, and a cache folder of the tests' own."""

import os
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
_CACHE = tempfile.TemporaryDirectory(prefix="dico_tf_cache_")
os.environ["XDG_CACHE_HOME"] = _CACHE.name
