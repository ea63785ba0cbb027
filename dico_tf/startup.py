"""Starts TensorFlow sooner, and without most of its notices."""

import contextlib
import os
import sys
from collections.abc import Iterator

# What Keras imports where it is installed, for wrappers and galleries that nothing here uses: a third of its start.
UNUSED = ("sklearn", "matplotlib", "pandas")


def tensorflow() -> None:
    """Import TensorFlow with its warnings off, unless TF_CPP_MIN_LOG_LEVEL is set.

    A few lines that it prints before it reads the level stay: whoever held them back would lose the reason of a crash.
    oneDNN is on unless TF_ENABLE_ONEDNN_OPTS says otherwise: without it, TensorFlow has no gradient of dilated
    convolutions on CPUs, and it leaves oneDNN off on those without AVX-512.
    """
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with _absent(UNUSED):
        import tensorflow  # noqa: F401


@contextlib.contextmanager
def _absent(packages: tuple[str, ...]) -> Iterator[None]:
    """Those that are not imported yet cannot be, for a while: as if they were not installed."""
    hidden = [name for name in packages if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
