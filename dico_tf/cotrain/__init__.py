"""Co-training of a divided network's branches."""

from typing import Any

__all__ = ["DiCo"]


def __getattr__(name: str) -> Any:  # losses stay importable without TensorFlow
    if name == "DiCo":
        from dico_tf.cotrain.dico import DiCo

        return DiCo
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
