"""The architecture of a network as a dictionary, from which it can be divided again without its weights."""

from typing import Any

import keras

from dico_tf.divide.networks.graph import flat, weightless


def to_dict(model: keras.Model) -> dict[str, Any]:
    """Return the architecture for `json.dumps`, with nested models flattened.

    It includes the statistics of Normalization layers, but no weights.
    """
    return weightless(lambda: keras.saving.serialize_keras_object(flat(model)))


def from_dict(architecture: dict[str, Any]) -> keras.Model:
    """Return the model of an architecture from `to_dict`. Its weights have no values, but `plan` can divide it."""
    return weightless(keras.saving.deserialize_keras_object, architecture)


def in_float32(architecture: Any) -> Any:
    """Return a copy of the architecture with every mixed precision policy replaced by float32."""
    if isinstance(architecture, dict):
        return {key: in_float32(value) for key, value in architecture.items()}
    if isinstance(architecture, list):
        return [in_float32(value) for value in architecture]
    return "float32" if architecture in ("mixed_bfloat16", "mixed_float16") else architecture
