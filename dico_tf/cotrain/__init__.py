"""Co-training of branches: those of a divided network, or several given networks."""

import importlib
from typing import Any

_LEGACY = ("PixelSubmodels", "Segmenter", "Submodels")
_MODULES = {"DiCo": "dico", **dict.fromkeys(_LEGACY, "legacy_models")}
__all__ = ["DiCo", "PixelSubmodels", "Segmenter", "Submodels"]


def __getattr__(name: str) -> Any:
    """Import the model classes at first use: the losses, which use only `keras.ops`, work with any backend of Keras.

    All classes are imported together: a process that uses one of them can load the saved models of all.
    """
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    modules = {module: importlib.import_module(f"{__name__}.{module}") for module in sorted(set(_MODULES.values()))}
    return getattr(modules[_MODULES[name]], name)
