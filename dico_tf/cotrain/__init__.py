"""Co-training of a divided network's branches."""

import importlib
from typing import Any

_LEGACY = ("PixelSubmodels", "Segmenter", "Submodels")
_MODULES = {"DiCo": "dico", **dict.fromkeys(_LEGACY, "legacy_models")}
__all__ = ["DiCo", "PixelSubmodels", "Segmenter", "Submodels"]


def __getattr__(name: str) -> Any:
    """Import a model class when it is first used, so that losses stay importable without TensorFlow.

    All are imported together: a process that has one of them can load what Keras saved of any.
    """
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    modules = {module: importlib.import_module(f"{__name__}.{module}") for module in sorted(set(_MODULES.values()))}
    return getattr(modules[_MODULES[name]], name)
