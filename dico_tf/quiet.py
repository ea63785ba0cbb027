"""Keeps TensorFlow's start-up notices off a user's screen; what a user can act on stays."""

import glob
import os
import sys
import tempfile

# Printed while TensorFlow starts, before TF_CPP_MIN_LOG_LEVEL has a say.
NOTICES = ("All log messages before absl::InitializeLog", "oneDNN custom operations are on")
WITHOUT_GPU = ("Could not find cuda drivers", "failed call to cuInit")  # no news where there is no NVIDIA device


def tensorflow() -> None:
    """Imports TensorFlow; where TF_CPP_MIN_LOG_LEVEL is set, everything is left as it is."""
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        return
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
