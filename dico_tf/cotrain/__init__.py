"""Co-training of a divided network's branches."""

import importlib
from typing import Any

_LEARNERS = {
    "DiCo": "dico", "Submodels": "submodels", "Segmenter": "segmenter", "PixelSubmodels": "pixel_submodels"
}  # fmt: skip
__all__ = ["DiCo", "PixelSubmodels", "Segmenter", "Submodels"]


def __getattr__(name: str) -> Any:
    """Not before it is asked for, so that losses stay importable without TensorFlow; and then all of them.

    Whoever has one of them can load what Keras saved of any.
    """
    if name not in _LEARNERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = {learner: importlib.import_module(f"{__name__}.{module}") for learner, module in _LEARNERS.items()}
    return getattr(found[name], name)
