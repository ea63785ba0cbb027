"""Divide one wide network into small branches, co-train them, and average their answers."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dico_tf.cotrain.dico import DiCo
    from dico_tf.divide.networks.division import divide_model
    from dico_tf.edge.client import Client

__version__ = "0.1.0"
__all__ = ["Client", "DiCo", "__version__", "divide_model"]

# Name -> modules to import when it is first used; the first has the name, the others have what saved models need.
_LAZY = {"Client": ("edge",), "DiCo": ("cotrain", "training.optimizers"), "divide_model": ("divide",)}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from dico_tf import extras

    try:
        modules = [importlib.import_module(f"{__name__}.{module}") for module in _LAZY[name]]
    except ModuleNotFoundError as error:
        if not (remedy := extras.remedy(error.name or "")):
            raise
        raise ImportError(f"dico_tf.{name}: {remedy}", name=error.name) from None
    return getattr(modules[0], name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
