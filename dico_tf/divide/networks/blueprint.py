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
