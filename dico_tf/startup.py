"""Import TensorFlow quickly, and without most of its log messages."""

import contextlib
import os
import sys
from collections.abc import Iterator

# Keras imports these if they are installed, for features that are not used here. That takes a third of its start.
UNUSED = ("sklearn", "matplotlib", "pandas")


def tensorflow() -> None:
    """Import TensorFlow without its warnings, unless TF_CPP_MIN_LOG_LEVEL is set.

    A few lines remain that TensorFlow prints before it reads the log level. Hiding standard error instead would also
    hide the reason of a crash. oneDNN is switched on unless TF_ENABLE_ONEDNN_OPTS is set: without it, TensorFlow has no
    gradient of dilated convolutions on CPUs, and by default it is off on CPUs without AVX-512.
    """
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with _hidden(UNUSED):
        import tensorflow  # noqa: F401


@contextlib.contextmanager
def _hidden(packages: tuple[str, ...]) -> Iterator[None]:
    """Make imports of these packages fail inside the block, as if they were not installed.

    Packages that were imported before can still be imported.
    """
    hidden = [name for name in packages if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
