"""Serve exports without TensorFlow: a worker serves one member, a gateway serves the committee, Client asks either."""

import importlib
from typing import Any

_LAZY = {"Client": "client", "Prediction": "client", "EdgeError": "errors"}  # a worker does not load the client


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
