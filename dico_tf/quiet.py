"""Starts TensorFlow sooner and keeps its notices off a user's screen; what a user can act on stays."""

import contextlib
import glob
import os
import sys
import tempfile
from collections.abc import Iterator

# Printed while TensorFlow starts, before TF_CPP_MIN_LOG_LEVEL has a say.
NOTICES = ("All log messages before absl::InitializeLog", "oneDNN custom operations are on")
WITHOUT_GPU = ("Could not find cuda drivers", "failed call to cuInit")  # no news where there is no NVIDIA device
# What Keras imports where it is installed, for wrappers and galleries that nothing here uses: a third of its start.
UNUSED = ("sklearn", "matplotlib", "pandas")


def tensorflow() -> None:
    """Import TensorFlow; where TF_CPP_MIN_LOG_LEVEL is set, what it prints is left as it is.

    oneDNN is on unless TF_ENABLE_ONEDNN_OPTS says otherwise: without it, TensorFlow has no gradient of dilated
    convolutions on CPUs, and it leaves oneDNN off on those without AVX-512.
    """
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    with _absent(UNUSED):
        if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
            import tensorflow  # noqa: F401
        else:
            _without_notices()


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


def _without_notices() -> None:
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    dropped = NOTICES if glob.glob("/dev/nvidia*") else NOTICES + WITHOUT_GPU
    sys.stderr.flush()
    screen = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)  # TensorFlow's C++ writes to the descriptor, not to sys.stderr
        try:
            import tensorflow as tf

            tf.config.list_physical_devices()
        finally:
            os.dup2(screen, 2)
            os.close(screen)
            held.seek(0)
            for line in held.read().decode(errors="replace").splitlines():
                if not any(notice in line for notice in dropped):
                    sys.stderr.write(line + "\n")
