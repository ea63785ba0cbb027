"""The architecture of a network as a dictionary, from which it can be divided again without its weights."""

from typing import Any

import keras

from dico_tf.divide.networks.graph import flat, weightless


def to_dict(model: keras.Model) -> dict[str, Any]:
    """Return the architecture as values for `json.dumps`. It includes the statistics of Normalization layers."""
    return weightless(lambda: keras.saving.serialize_keras_object(flat(model)))


def from_dict(architecture: dict[str, Any]) -> keras.Model:
    """Return a model without weights, which `plan` can divide."""
    return weightless(keras.saving.deserialize_keras_object, architecture)


def in_float32(architecture: Any) -> Any:
    """Return the architecture with every mixed precision policy replaced by float32."""
    if isinstance(architecture, dict):
        return {key: in_float32(value) for key, value in architecture.items()}
    if isinstance(architecture, list):
        return [in_float32(value) for value in architecture]
    return "float32" if architecture in ("mixed_bfloat16", "mixed_float16") else architecture
