"""Divide networks: `rules` of the families, search within a `budget`, and `divide_model` for a model of your own.

`rules` and `budget` need no framework. `divide_model`, `plan` and `narrows`, which registers a rule for layers of your
own, import Keras at their first use.
"""

from typing import Any

_OF_KERAS = {
    "divide_model": "dico_tf.divide.networks.division",
    "plan": "dico_tf.divide.networks.division",
    "narrows": "dico_tf.divide.networks.width_tracing",
}


def __getattr__(name: str) -> Any:
    if name not in _OF_KERAS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_OF_KERAS[name]), name)
