"""Answers from exports, without TensorFlow: a worker for one member, a gateway for the committee, and their client."""

import importlib
from typing import Any

_LAZY = {"Client": "client", "Prediction": "client", "EdgeError": "errors"}  # a worker needs no client


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
