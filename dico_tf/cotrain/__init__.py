"""Co-training of a divided network's branches."""

from typing import Any

__all__ = ["DiCo", "Submodels"]


def __getattr__(name: str) -> Any:  # losses stay importable without TensorFlow
    if name == "DiCo":
        from dico_tf.cotrain.dico import DiCo

        return DiCo
    if name == "Submodels":
        from dico_tf.cotrain.submodels import Submodels

        return Submodels
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
