"""A committee's member as an export takes networks: raw pixels in, logits of the committee's classes out."""

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from dico_tf.evaluation.members.member import Graph

_TINY = float(np.finfo(np.float32).tiny)  # as reading.py floors probabilities before their logarithm


@dataclasses.dataclass(frozen=True)
class Held:
    value: Any  # a variable, or an object that has some


class Network:
    """The member's own graph, whose outputs are read within."""

    def __init__(self, graph: Graph, outputs: str, dropped: int):
        """`outputs`: logits or probabilities, of which the first `dropped` are left out."""
        self._graph, self._outputs, self._dropped = graph, outputs, dropped
        self.variables = [Held(value) for value in graph.holds]

    def __call__(self, image: tf.Tensor, training: bool = False) -> tf.Tensor:
        """float32 [B, H, W, 3] of 0 to 255 -> float32 [B, C]."""
        values = tf.cast(self._graph.call(image), tf.float32)[:, self._dropped :]
        return tf.math.log(tf.maximum(values, _TINY)) if self._outputs == "probabilities" else values
