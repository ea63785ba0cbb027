"""A network's architecture as plain values, from which it can be divided again without its weights."""

from typing import Any

import keras

from dico_tf.divide.networks.graph import flat, weightless


def written(model: keras.Model) -> dict[str, Any]:
    """What json.dumps takes; the statistics that a Normalization layer learnt are in it."""
    return weightless(lambda: keras.saving.serialize_keras_object(flat(model)))


def read(blueprint: dict[str, Any]) -> keras.Model:
    """The architecture, for `plan` to divide: it has no weights."""
    return weightless(keras.saving.deserialize_keras_object, blueprint)


def in_float32(blueprint: Any) -> Any:
    """The same with every mixed precision policy taken back."""
    if isinstance(blueprint, dict):
        return {key: in_float32(value) for key, value in blueprint.items()}
    if isinstance(blueprint, list):
        return [in_float32(value) for value in blueprint]
    return "float32" if blueprint in ("mixed_bfloat16", "mixed_float16") else blueprint
