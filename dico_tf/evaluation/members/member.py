"""Member of a committee: a model of any kind that turns uint8 images into logits, or a table of a model's logits."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dico_tf.errors import UserError
from dico_tf.evaluation.cost import Cost
from dico_tf.evaluation.members.output_decoding import OutputDecoder

if TYPE_CHECKING:  # it imports Keras, which members of other kinds do without
    from dico_tf.divide.networks.graph import FrozenLayers


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadedNetwork:
    """A member's network in memory, with its own outputs: logits or probabilities, maybe with a background class."""

    answer: Callable[[np.ndarray], np.ndarray]  # uint8 [B, H, W, 3] -> float32 [B, outputs], any B
    cost: Cost  # milliseconds are NaN, except of a table whose URI gives them
    step: float = 0.0  # distance between two neighbouring output values if quantised, else 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Graph:
    """A member's network as a float32 TensorFlow function, for exports and distillation."""

    call: Callable[[Any], Any]  # raw pixels float32 [B, H, W, 3] -> [B, outputs]
    trackables: Sequence[Any]  # stored with it in a SavedModel: its variables, or the object that owns them


@dataclasses.dataclass(frozen=True, kw_only=True)
class TFLiteFile:
    """A .tflite file that an export copies unchanged."""

    path: Path
    kind: str  # float32, float16, dynamic or int8
    pixels: str  # range of its input, a key of preprocessing.PIXELS
    output: str  # name
    place: int  # number of the output among the file's outputs


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Member:
    """A model, or a table of a model's logits, that can be part of a committee; `load` opens it at the first use."""

    name: str
    kind: str
    source: str  # URI without the name
    weights: str  # sha256 of the weights, or of their file
    input_size: int  # side of its square images in pixels; 0 = it is a table of logits
    short_side: int  # images are resized to this short side, then the centre is cut out
    load: Callable[[], LoadedNetwork]
    class_names: tuple[str, ...] | None = None  # None = unknown
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # everything else that its outputs depend on
    decoder: OutputDecoder = dataclasses.field(default_factory=OutputDecoder)
    stored: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None  # table of logits: (ids, labels) -> logits
    graph: Callable[[], Graph] | None = None  # None = it is not computed by TensorFlow
    file: TFLiteFile | None = None  # None = it is not a .tflite file
    keras_model: Callable[[], Any] | None = (
        None  # raw pixels float32 -> outputs; None = not one Keras model; its head may be random
    )
    frozen: "FrozenLayers | None" = None  # layers of `keras_model` that its owner froze; None = as its layers say

    @functools.cached_property
    def network(self) -> LoadedNetwork:
        """The network, which `load` returns at the first access."""
        return self.load()

    @property
    def cost(self) -> Cost:
        """Multiply-adds of one image and number of parameters, NaN if unknown. Loads the network.

        Milliseconds are NaN, except of a table whose URI gives them; collect_logits measures them.
        """
        return self.network.cost

    @functools.cached_property
    def checksum(self) -> str:
        """sha256 of everything that turns images into logits; the key in the cache.

        That is kind, weights, image size, preprocessing and decoding of outputs.
        """
        identity = {
            "kind": self.kind,
            "weights": self.weights,
            "input_size": self.input_size,
            "short_side": self.short_side,
            "settings": dict(self.settings),
            "reading": self.decoder.settings,
        }
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()

    def run(self, images: np.ndarray) -> np.ndarray:
        """Return logits float32 [B, C] of uint8 images [B, H, W, 3] of the member's size. A table raises UserError."""
        if self.stored:
            raise UserError(f"{self.source} is a table of logits, which cannot run on images: give a network")
        side = self.input_size
        if images.dtype != np.uint8 or images.shape[1:] != (side, side, 3):
            raise ValueError(
                f"{self.name} expected uint8 images [B, {side}, {side}, 3], got {images.dtype} {images.shape}"
            )
        return self.decoder(self.network.answer(images), self.network.step, self.name)
