"""Keeps TensorFlow's start-up notices off a user's screen; errors stay."""

import os


def tensorflow() -> None:
    """Before TensorFlow is imported; what the environment already says stands."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
